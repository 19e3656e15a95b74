"""Networks of others in every verb: given the recipe, they count as the same network of ours does."""

import csv
import json
from pathlib import Path

import pytest
import torch
from foreign_checkpoints import ORIGINAL, authors_student, ldam_teacher, linear_teacher, paco_teacher, permuted_teacher
from PIL import Image

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.data.datasets import DataRequest, get_dataset, read_digits
from deitlt.engine.building import build_data, build_teacher
from deitlt.engine.stage_config import StageConfig
from deitlt.transforms import evaluation_transform

DIGITS = ("experiment=digits", "data=digits", "data.max_count=20", "data.imbalance_factor=0.1", "num_workers=0")


@pytest.fixture
def original(tmp_path):
    """The override that gives the digits a published order other than that of their classes."""
    (tmp_path / "order.txt").write_text("\n".join(map(str, ORIGINAL)))
    return f"data.class_order={tmp_path / 'order.txt'}"


def evaluate(*words, output="found"):
    assert main(["evaluate", *words, f"paths.output_dir={output}"]) == 0
    return json.loads((Path(output) / "metrics.json").read_text())


def near(accuracies):
    """Of one answer, or of each of a student's."""
    nested = any(isinstance(value, dict) for value in accuracies.values())
    return {k: near(v) for k, v in accuracies.items()} if nested else pytest.approx(accuracies, abs=1e-6)


def test_a_student_of_the_authors_is_as_good_as_ours(trained):
    path = authors_student(trained, "theirs.pth")
    found = evaluate(f"checkpoint={path}", *DIGITS)
    expected = json.loads((trained / "metrics.json").read_text())
    assert found["student"] == near(expected["student"])
    assert found["groups"] == expected["groups"]
    assert found["counts"] == expected["counts"]
    assert found["protocol"] == ""  # nobody knows how its epoch was chosen
    averaged = evaluate(f"checkpoint={path}", *DIGITS, "ema=true", output="averaged")
    assert averaged["student"] == near(expected["student_ema"])


def test_a_teacher_of_the_authors_is_as_good_as_ours(trained):
    path = ldam_teacher(trained, "theirs.pth.tar")
    found = evaluate(f"checkpoint={path}", *DIGITS)
    assert found["teacher"] == near(json.loads((trained / "metrics.json").read_text())["teacher"])


def test_pacos_teacher_in_the_original_order_is_as_good_as_in_the_sorted_one(original):
    plain, permuted = paco_teacher("sorted.pth.tar"), paco_teacher("original.pth.tar", ORIGINAL)
    words = [*DIGITS, original]
    expected = evaluate(f"checkpoint={plain}", *words, "label_order=sorted", output="a")["teacher"]
    assert evaluate(f"checkpoint={permuted}", *words, output="b")["teacher"] == expected
    assert evaluate(f"checkpoint={permuted}", *words, "label_order=original", output="c")["teacher"] == expected
    assert evaluate(f"checkpoint={permuted}", *words, "label_order=sorted", output="d")["teacher"] != expected


def test_our_own_teacher_in_another_order_is_told_by_its_names(trained):
    path = permuted_teacher(trained, "permuted.ckpt", ORIGINAL)
    found, expected = evaluate(f"checkpoint={path}"), json.loads((trained / "metrics.json").read_text())
    assert found["teacher"] == near(expected["teacher"])
    assert (found["class_names"], found["counts"]) == (expected["class_names"], expected["counts"])
    assert found["groups"] == expected["groups"]


def test_our_own_file_is_measured_on_the_test_images_of_a_recipe(trained):
    found = evaluate(f"checkpoint={trained}", "experiment=digits", "num_workers=0")
    assert found["student"] == near(
        json.loads((trained / "metrics.json").read_text())["student"]
    )  # the same test images


def test_a_file_without_a_recipe_says_what_to_type(complain, trained):
    authors_student(trained, "theirs.pth")
    sentence = complain("evaluate", "checkpoint=theirs.pth")
    assert "theirs.pth was not written by deitlt and does not say which data it knows; type experiment=NAME" in sentence
    assert "type experiment=NAME" in complain("predict", "checkpoint=theirs.pth", "images=.", output=None)


def test_a_published_file_of_another_data_set(complain, trained, image_folder):
    authors_student(trained, "theirs.pth")
    words = ["experiment=folder_cpu", f"data_root={image_folder}", "num_workers=0"]
    sentence = complain("evaluate", "checkpoint=theirs.pth", *words)
    assert "theirs.pth knows 10 classes, but the data have 3; type experiment=NAME" in sentence


def test_a_recipe_whose_data_lie_nowhere(complain, trained):
    authors_student(trained, "theirs.pth")
    sentence = complain("evaluate", "checkpoint=theirs.pth", "experiment=folder_cpu")
    assert "experiment=folder_cpu has no data.root; type data_root=FOLDER" in sentence


def test_a_recipe_and_an_order_that_there_are_not(complain, trained):
    authors_student(trained, "theirs.pth")
    assert "did you mean 'digits'" in complain("evaluate", "checkpoint=theirs.pth", "experiment=digit")
    assert "label_order=sortd" in complain("evaluate", "checkpoint=theirs.pth", *DIGITS, "label_order=sortd")


def predictions(*words):
    assert main(["predict", *words, "num_workers=0", "output=found.csv"]) == 0
    with open("found.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_of_a_foreign_file_name_true_classes(trained, tmp_path, original):
    source = read_digits(DataRequest(tmp_path)).test
    (tmp_path / "images").mkdir()
    for i in range(6):
        source[i * 40].save(tmp_path / "images" / f"{i}.png")
    ours = predictions(f"checkpoint={trained}", "images=images")
    theirs = predictions(f"checkpoint={authors_student(trained, 'theirs.pth')}", "images=images", *DIGITS)
    assert theirs == ours
    teacher = paco_teacher("original.pth.tar", ORIGINAL)
    mapped = predictions(f"checkpoint={teacher}", "images=images", *DIGITS, original)
    assert [row["class"] for row in mapped] == names_by(linear_teacher(), tmp_path / "images", ORIGINAL)


def names_by(network, folder, labels):
    """The digits that a network chooses whose answer for class c means the published label labels[c]."""
    view = evaluation_transform(16, get_dataset("digits").normalisation)
    images = torch.stack([view(Image.open(path)) for path in sorted(folder.iterdir())])
    with torch.no_grad():
        return [str(labels[c]) for c in network.eval()(images).argmax(dim=1).tolist()]


def student_of(teacher, tiny, *words):
    """What a student and its accuracies are after training with this teacher."""
    output = Path(f"run_{Path(teacher).name}")
    words = [f"teacher.checkpoint={teacher}", "teacher/model=cifar_resnet8", *words, f"paths.output_dir={output}"]
    assert (
        main(["train", *tiny, "student.epochs=1", "student.drw=null", "student.schedule.warmup_epochs=0", *words]) == 0
    )
    return read_checkpoint(output / "student" / "last.ckpt")["state_dict"]


def equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture
def short(tiny):
    """The tiny run's overrides without what a one-epoch run changes."""
    return [word for word in tiny if not word.startswith(("student.epochs", "student.drw", "student.schedule"))]


@pytest.mark.slow
def test_a_student_learns_from_the_authors_teacher_what_it_learns_from_ours(trained, short):
    ours = student_of(trained / "teacher" / "last.ckpt", short)
    assert equal(student_of(ldam_teacher(trained, "ldam.pth.tar"), short), ours)
    assert equal(student_of(permuted_teacher(trained, "permuted.ckpt", ORIGINAL), short), ours)


def test_a_student_learns_from_pacos_teacher_of_either_order_the_same(short, original):
    expected = student_of(paco_teacher("sorted.pth.tar"), short, original, "teacher.label_order=sorted")
    permuted = paco_teacher("original.pth.tar", ORIGINAL)
    assert equal(student_of(permuted, short, original), expected)


def test_a_fresh_process_finds_the_same_teacher_in_its_stage_file(short, original):
    student_of(paco_teacher("original.pth.tar", ORIGINAL), short, original)
    stage = StageConfig.load(Path("run_original.pth.tar/student/stage.yaml"))
    datamodule = build_data(stage)
    teacher = build_teacher(stage, datamodule)
    images, _ = next(iter(datamodule.test_dataloader()))
    with torch.no_grad():
        assert torch.equal(teacher.hard_labels(images), linear_teacher().eval()(images).argmax(dim=1))
    assert teacher.input is datamodule.teacher_input
    assert teacher.input.image_size == 16


def test_a_teacher_of_the_authors_for_other_data_is_refused(complain, tiny, trained, image_folder):
    ldam_teacher(trained, "ldam.pth.tar")
    data = ["data=folder", f"data.root={image_folder}", "data.max_count=null", "data.imbalance_factor=null"]
    sentence = complain("train", *tiny, *data, "teacher.checkpoint=ldam.pth.tar")
    assert "ldam.pth.tar knows 10 classes, but the data have 3; type teacher.checkpoint=FILE" in sentence


def test_a_student_starts_from_the_authors_weights_and_says_so(trained, short, teacher, capfd):
    path = authors_student(trained, "theirs.pth")
    words = [
        teacher,
        f"student.init={path}",
        "student.epochs=1",
        "student.drw=null",
        "student.schedule.warmup_epochs=0",
    ]
    words += ["student.optimizer.lr=0", "student.schedule.warmup_lr=0", "student.schedule.min_lr=0"]
    assert main(["train", *short, *words, "paths.output_dir=run"]) == 0
    assert f"student: starts from {Path(path).absolute()}; fresh: nothing" in capfd.readouterr().out
    stored = read_checkpoint("run/student/last.ckpt")["state_dict"]
    assert all(torch.equal(stored[f"network.vit.{n}"], v) for n, v in read_checkpoint(path, True)["model"].items())
    differences = json.loads(Path("run/metrics.json").read_text())["recipe_differences"]
    assert any(line.startswith("student.init is ") for line in differences)
    for name in (path, "run/metrics.json", "run/student/result.json"):
        Path(name).unlink()
    assert main(["train", "resume=run"]) == 0  # it goes on from its own weights, and needs the others no more


def test_weights_of_another_width_are_refused_before_anything_is_written(complain, trained, tiny, teacher):
    authors_student(trained, "theirs.pth")
    words = [*tiny, teacher, "student.init=theirs.pth", "student.model.width=32"]
    assert "has width 16, but the student has 32; type student.model.width=16" in complain("train", *words)
