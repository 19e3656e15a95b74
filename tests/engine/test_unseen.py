"""A given teacher, or a student's first weights, that were trained on images which the run holds out."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from foreign_checkpoints import authors_student
from omegaconf import OmegaConf

from deitlt.checkpoints import find_checkpoint, read_card, read_checkpoint
from deitlt.cli import main
from deitlt.engine.teachers import CheckedTeacher
from deitlt.engine.unseen import check_start, check_unseen
from deitlt.errors import CheckpointError, Preempted

DATA = {"name": "digits", "root": "data", "split_seed": 0, "imbalance_factor": 0.1, "imbalance_kind": "exp"}
DATA |= {"max_count": 20, "val_fraction": 0.2}


@pytest.fixture
def told(trained):
    """Tells a teacher of some training data; answers with what `check_unseen` says of it."""
    card = read_card(find_checkpoint(str(trained), ("teacher",)))

    def tell(known, data):
        return check_unseen(CheckedTeacher(SimpleNamespace(path="r1"), replace(card, data=known), None), data)

    return tell


@pytest.fixture
def begin(trained, tmp_path):
    """Begins a student from a student of some training data; answers with what `check_start` says of it."""
    content = read_checkpoint(trained / "student" / "last.ckpt")

    def start(known, data):
        content["deitlt"]["data"] = known
        torch.save(content, tmp_path / "first.ckpt")
        return check_start(str(tmp_path / "first.ckpt"), data)

    return start


def test_a_teacher_that_has_seen_the_held_out_images_is_refused_before_anything_is_written(complain, tiny, teacher):
    sentence = complain("train", *tiny, teacher, "data.val_fraction=0.2")
    assert "was trained with data.val_fraction=0.0, so that with data.val_fraction=0.2 it has seen images" in sentence
    assert sentence.endswith("type teacher.checkpoint=null to train one, or data.val_fraction=0.0.")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"val_fraction": 0.1}, "data.val_fraction=0.1"),
        ({"split_seed": 1}, "data.split_seed=1"),
        ({"imbalance_factor": None}, "data.imbalance_factor=null"),
        ({"max_count": 30}, "data.max_count=30"),
    ],
)
def test_other_images_were_held_out_from_the_teacher(told, change, named):
    with pytest.raises(CheckpointError, match="images that this run holds out; type teacher") as error:
        told(DATA | change, DATA)
    assert f"was trained with {named}, " in str(error.value)
    assert str(error.value).endswith(f"or {named}.")


def test_a_teacher_that_has_not_seen_them_passes(told):
    assert told(DATA, DATA) is None
    assert told(DATA | {"val_fraction": 0.3, "root": "moved"}, DATA) is None
    assert told(DATA | {"val_fraction": 0.0}, DATA | {"val_fraction": 0.0}) is None


def test_a_line_says_so_where_nobody_knows_what_the_teacher_has_seen(told):
    folder = DATA | {"name": "folder"}
    for known, data in (({}, DATA), (DATA | {"name": "other"}, DATA), (folder | {"root": "elsewhere"}, folder)):
        assert told(known, data) == "teacher: r1 does not say whether it was trained on images that are held out here"
    assert told({}, DATA | {"val_fraction": 0.0}) is None


def test_what_is_held_out_with_a_share_is_held_out_with_a_larger_one():
    from deitlt.data import LongTailDataModule

    options = {key: value for key, value in DATA.items() if key != "val_fraction"}
    smaller, larger = (LongTailDataModule.from_keys(**options, val_fraction=share) for share in (0.2, 0.3))
    kept = [set(map(int, module.splits.train.indices)) for module in (smaller, larger)]
    assert kept[1] < kept[0]


def test_a_student_that_has_seen_them_is_no_start_before_anything_is_written(complain, tiny_vit, trained):
    sentence = complain("train", *tiny_vit, f"student.init={trained}", "data.val_fraction=0.2")
    path = trained / "student" / "last.ckpt"
    assert (
        f"The student in {path} was trained with data.val_fraction=0.0, so that with data.val_fraction=0.2" in sentence
    )
    assert sentence.endswith("type student.init=null as in the paper, or data.val_fraction=0.0.")


def test_a_student_that_has_not_seen_them_is_a_start(begin):
    assert begin(DATA, DATA) is None
    assert begin(DATA | {"val_fraction": 0.3}, DATA) is None
    with pytest.raises(CheckpointError, match=r"first\.ckpt was trained with data\.split_seed=1, so that"):
        begin(DATA | {"split_seed": 1}, DATA)


def test_nothing_is_asked_of_a_start_where_nothing_is_held_out_or_there_is_none(begin):
    assert begin({}, DATA | {"val_fraction": 0.0}) is None
    assert check_start(None, DATA) is None


def test_nobody_knows_what_timms_weights_have_seen():
    said = check_start("timm:deit_tiny_patch16_224", DATA)
    assert said == (
        "student: timm:deit_tiny_patch16_224 does not say whether it was trained on images that are held out here"
    )


def test_a_start_that_says_nothing_is_doubted_once_until_there_are_weights_to_go_on_with(
    trained, tiny_vit, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr("deitlt.commands.train.launch_stage", _stopped)
    first, run = Path(authors_student(trained, "theirs.pth")).absolute(), tmp_path / "run"
    words = [f"student.init={first}", "data.val_fraction=0.2", "stages=[student,baseline]", f"paths.output_dir={run}"]
    assert main(["train", *tiny_vit, *words]) == Preempted.CODE
    doubt = f"student: {first} does not say whether it was trained on images that are held out here"
    assert capfd.readouterr().out.count(doubt) == 1
    for stage in ("student", "baseline"):
        (run / stage).mkdir()
        shutil.copy(trained / stage / "last.ckpt", run / stage)
    first.unlink()
    assert main(["train", f"resume={run}"]) == Preempted.CODE
    assert doubt not in capfd.readouterr().out


def test_a_run_begun_before_anyone_looked_goes_on_from_a_start_that_saw_them_and_says_so(
    trained, tiny, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr("deitlt.commands.train.launch_stage", _stopped)
    run = tmp_path / "run"
    assert main(["train", *tiny, "data.val_fraction=0.2", f"paths.output_dir={run}"]) == Preempted.CODE
    (run / "teacher").mkdir()
    shutil.copy(trained / "teacher" / "last.ckpt", run / "teacher")
    config = OmegaConf.load(run / "config.yaml")
    config.student.init = str(trained)
    OmegaConf.save(config, run / "config.yaml")
    capfd.readouterr()
    assert main(["train", f"resume={run}"]) == Preempted.CODE
    said = f"student: {trained / 'student' / 'last.ckpt'} was trained with data.val_fraction=0.0, so that with "
    assert f"{said}data.val_fraction=0.2 it has seen images that this run holds out\n" in capfd.readouterr().out


def _stopped(*_):
    raise Preempted()
