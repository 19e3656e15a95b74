"""Students of one teacher that see the same images share its answers: they are asked for once."""

import json
import os
from dataclasses import replace

import pytest
import torch

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.engine.building import build_data, build_labeller
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.stored_answers import schedule_text
from deitlt.models import LiveTeacher

STORE = "student.teacher_view.store=answers"
CROPS = ("student/views=multicrop", "student.views.train.local_size=8", "student.views.train.local_crops=2")


@pytest.fixture
def asked(monkeypatch):
    """Each batch that the live teacher labels; a check of stored answers is none."""
    batches = []
    label = LiveTeacher.__call__

    def count(self, images):
        batches.append(len(images))
        return label(self, images)

    monkeypatch.setattr(LiveTeacher, "__call__", count)
    return batches


@pytest.fixture
def student(tiny, teacher, tmp_path):
    """Trains a student of the trained run's teacher; its weights."""

    def train(name, *words):
        given = ["stages=[student]", teacher, "analysis.every=null", f"paths.output_dir={name}"]
        assert main(["train", *tiny, *given, *words]) == 0
        return read_checkpoint(tmp_path / name / "student" / "last.ckpt")["state_dict"]

    return train


@pytest.fixture(scope="module")
def schedule(trained):
    """Makes the schedule of the trained run's student, after changes: dotted keys of the stage -> values."""
    known = StageConfig.load(trained / "student" / "stage.yaml")

    def make(weights=1.0, **fields):
        changes = {"recipe": {}, "data": {}, "trainer": {}}
        for key, value in fields.pop("changes", {}).items():
            _set(changes, key.split("."), value)
        parts = {name: _merged(getattr(known, name), change) for name, change in changes.items()}
        stage = replace(known, **parts, **fields)
        datamodule = build_data(stage)
        live = build_labeller(stage, datamodule)
        next(live.network.parameters()).mul_(weights)
        return schedule_text(stage, datamodule, live)

    return make


def _set(node, keys, value):
    for key in keys[:-1]:
        node = node.setdefault(key, {})
    node[keys[-1]] = value


def _merged(node, changes):
    return {**node, **{k: _merged(node[k], v) if isinstance(v, dict) else v for k, v in changes.items()}}


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def changed(one, other):
    one, other = json.loads(one), json.loads(other)
    return {key for key in one if one[key] != other[key]}


SOFT = ("student/distillation=soft", *CROPS, "student.views.teacher_sees=both")


@pytest.mark.parametrize("words", [(), pytest.param(SOFT, marks=pytest.mark.slow)])
def test_a_student_of_stored_answers_is_the_live_teachers_bit_for_bit(words, student, asked):
    live = student("live", *words)
    wanted = len(asked)
    first = student("first", *words, STORE)
    assert len(asked) == 2 * wanted
    second = student("second", *words, STORE)
    assert len(asked) == 2 * wanted
    assert equal(live, first)
    assert equal(live, second)


@pytest.mark.slow
def test_a_sweep_asks_the_teacher_once(tiny, teacher, asked, tmp_path):
    here = ["sweep.isolated=false", "analysis.every=null"]  # in this process, where calls are counted; an analysis asks
    words = [*tiny, *CROPS, *here, "stages=[student]", teacher, f"student.teacher_view.store={tmp_path / 'answers'}"]
    assert main(["train", *words, "paths.sweep_dir=sweep", "-m", "student.optimizer.lr=1e-3,2e-3"]) == 0
    assert len(asked) == 15  # three epochs of five batches, not six
    one, other = (read_checkpoint(tmp_path / "sweep" / job / "student" / "last.ckpt") for job in ("0", "1"))
    assert not equal(one["state_dict"], other["state_dict"])


def test_a_damaged_file_stops_the_run_with_a_sentence(student, tiny, teacher, tmp_path, capfd):
    student("first", STORE)
    assert f"store: {tmp_path / 'answers'}" in (tmp_path / "first" / "config.yaml").read_text()
    assert "teacher_view.store" not in (tmp_path / "first" / "metrics.json").read_text()  # no change of the recipe
    file = next(tmp_path.glob("answers/*/epoch-00001-*"))
    file.write_bytes(file.read_bytes()[:100])
    words = ["stages=[student]", teacher, STORE, "paths.output_dir=second"]
    assert main(["train", *tiny, *words]) == 2
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "epoch-00001-mixed-rank-0.safetensors is damaged" in said[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe.epochs": 7, "recipe.schedule.epochs": 7},
        {"recipe.optimizer.lr": 0.5},
        {"recipe.model.width": 32},
        {"recipe.distillation.alpha": 0.1},
        {"recipe.ema": None},
        {"recipe.drw.start_epoch": 1},
        {"recipe.images_per_update": 32, "recipe.batch_size": 16},
        {"recipe.views.mixing.smoothing": 0.0},
        {"recipe.teacher_view.store": "elsewhere"},
        {"data.num_workers": 4, "data.groups": "shots"},
    ],
)
def test_what_leaves_the_images_as_they_are_shares_their_answers(changes, schedule):
    assert schedule(changes=changes) == schedule()


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"recipe.views.train.erasing": 0.0}, "view"),
        ({"recipe.views.mixing.mixup": 0.5}, "mixing"),
        ({"recipe.views.mixing": None}, "mixing"),
        ({"recipe.teacher_view.antialias": True}, "teacher"),
        ({"recipe.distillation.kind": "soft"}, "teacher"),
        ({"recipe.image_size": 32}, "image_size"),
        ({"recipe.batch_size": 8}, "batch_size"),
        ({"recipe.drop_last": True}, "drop_last"),
        ({"recipe.views.teacher_sees": "global"}, "teacher_sees"),
        ({"trainer.devices": 2, "recipe.batch_size": 8}, "devices"),
        ({"data.max_count": 19}, "data"),
    ],
)
def test_what_changes_the_images_or_the_answers_has_another_schedule(changes, part, schedule):
    assert part in changed(schedule(changes=changes), schedule())


def test_another_seed_and_another_teacher_have_other_schedules(schedule):
    assert changed(schedule(seed=1), schedule()) == {"seed"}
    assert changed(schedule(weights=2.0), schedule()) == {"teacher"}


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a CPU device is a core, and there is one")
def test_two_ranks_store_and_read_their_own(student, environment, monkeypatch, tmp_path):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, environment[name])
    words = ("trainer=ddp", "trainer.accelerator=cpu", "student.epochs=2", "student.drw.start_epoch=1")
    first = student("first", STORE, *words)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.glob("answers/*/*.safetensors")}
    assert len(files) == 4
    assert equal(first, student("second", STORE, *words))
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("answers/*/*.safetensors")} == files
