"""Each choice of the student's transforms trains through the deferred phase, under a teacher."""

import csv
import json

import pytest
import torch

from deitlt.cli import main

FUSED = ("matched", "fused", "group_fused", "least_regret")


def trained_with(words, tiny, teacher, run):
    given = ["stages=[student]", teacher, f"paths.output_dir={run}"]
    assert main(["train", *tiny, *given, *words]) == 0
    return json.loads((run / "metrics.json").read_text())


@pytest.mark.parametrize("sees", ["global", "both"])
def test_multi_crop_trains_into_the_deferred_phase_and_its_fusions_are_measured(sees, tiny, held_out_teacher, tmp_path):
    crops = ["student/transforms=multicrop", "student.transforms.train.local_size=8"]
    metrics = trained_with(
        [*crops, f"student.transforms.teacher_sees={sees}", "data.val_fraction=0.2"],
        tiny,
        held_out_teacher,
        tmp_path / "run",
    )
    student = metrics["student"]
    assert set(student) == {"cls", "dist", "avg", "mean_prob", *FUSED}
    assert set(metrics["student_ema"]) == set(student)
    assert set(student["fused"]) >= {"all", "balanced", "head", "mid", "tail"}
    with (tmp_path / "run" / "student" / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]
    assert len(losses) == 3  # the last one under re-weighting, with hard labels


@pytest.mark.parametrize("name", ["transmix", "three_augment"])
def test_other_transforms_train_too(name, tiny, teacher, tmp_path):
    mixing = ("student.transforms.mixing.probability=1", "student.transforms.mixing.mixup=0")
    words = [f"student/transforms={name}", *mixing]
    metrics = trained_with(words, tiny, teacher, tmp_path / "run")
    assert set(metrics["student"]) == {"cls", "dist", "avg", "mean_prob"}  # nothing is fitted without held-out images


def test_transforms_on_the_device_train_the_same_wherever_the_images_live(tiny, teacher, tmp_path):
    runs = {
        cache: trained_with(
            ["student/transforms=batch_small", f"data.cache_on_device={cache}", f"data.num_workers={workers}"],
            tiny,
            teacher,
            tmp_path / cache,
        )
        for cache, workers in (("auto", 0), ("false", 1))
    }
    assert runs["auto"]["student"] == runs["false"]["student"]
    weights = [load_state(tmp_path / cache) for cache in runs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_teacher_trains_with_transforms_on_the_device(tiny, tmp_path):
    words = ["teacher/transforms=batch", "stages=[teacher]", f"paths.output_dir={tmp_path / 'run'}"]
    assert main(["train", *tiny, *words]) == 0
    assert 0 <= json.loads((tmp_path / "run" / "metrics.json").read_text())["teacher"]["all"] <= 100


def load_state(run):
    return torch.load(run / "student" / "last.ckpt", weights_only=True)["state_dict"]


def test_local_crops_that_the_student_cannot_take(complain, tiny, teacher):
    words = ["student/transforms=multicrop", "student.transforms.train.local_size=10", "stages=[student]", teacher]
    said = complain("train", *tiny, *words)
    assert "student.transforms.train.local_size=10 cannot be cut into patches of 4 pixels" in said
    assert "student.transforms.train.local_size=8" in said


@pytest.mark.parametrize("description", ["5", "rand-n0-m9"])
def test_what_is_no_rand_augment_is_answered_in_a_sentence(complain, tiny, teacher, description):
    words = [
        "student/transforms=batch_small",
        f"student.transforms.train.rand_augment={description}",
        "stages=[student]",
        teacher,
    ]
    assert f"rand_augment={description} is no RandAugment of timm's" in complain("train", *tiny, *words)
