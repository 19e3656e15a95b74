"""Checkpoints that a run is given: of others, of other classes, with held-out images, unsafe ones; and full disks."""

import errno
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from external_files import ORIGINAL, authors_student, ldam_teacher, linear_teacher, paco_teacher, permuted_teacher

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.engine.build import build_data, build_teacher
from deitlt.engine.stage_config import StageConfig
from deitlt.errors import Preempted


@pytest.fixture
def short(tiny):
    """The tiny run's overrides, for a student of one epoch."""
    kept = [word for word in tiny if not word.startswith(("student.epochs", "student.drw", "student.schedule"))]
    return [*kept, "student.epochs=1", "student.drw=null", "student.schedule.warmup_epochs=0"]


@pytest.fixture
def original(tmp_path):
    """The override that gives the digits a published order other than that of their classes."""
    (tmp_path / "order.txt").write_text("\n".join(map(str, ORIGINAL)))
    return f"data.class_order={tmp_path / 'order.txt'}"


def student_of(teacher, short, *words):
    """A student's weights after training with this teacher, and its stage's folder."""
    output = Path(f"run_{Path(teacher).name}")
    words = [f"teacher.checkpoint={teacher}", "teacher/model=cifar_resnet8", *words, f"paths.output_dir={output}"]
    assert main(["train", *short, *words]) == 0
    return read_checkpoint(output / "student" / "last.ckpt")["state_dict"], output / "student"


def equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.slow
def test_a_student_learns_from_the_authors_teacher_what_it_learns_from_ours(trained, short):
    ours, _ = student_of(trained / "teacher" / "last.ckpt", short)
    assert equal(student_of(ldam_teacher(trained, "ldam.pth.tar"), short)[0], ours)
    assert equal(student_of(permuted_teacher(trained, "permuted.ckpt", ORIGINAL), short)[0], ours)


def test_a_student_learns_from_pacos_teacher_of_either_order_the_same(short, original):
    expected, _ = student_of(paco_teacher("sorted.pth.tar"), short, original, "teacher.label_order=sorted")
    found, folder = student_of(paco_teacher("original.pth.tar", ORIGINAL), short, original)
    assert equal(found, expected)
    stage = StageConfig.load(folder / "stage.yaml")  # as a fresh process does
    datamodule = build_data(stage)
    teacher = build_teacher(stage, datamodule)
    images, _ = next(iter(datamodule.test_dataloader()))
    with torch.no_grad():
        assert torch.equal(teacher.hard_labels(images), linear_teacher().eval()(images).argmax(dim=1))


def test_a_student_starts_from_the_authors_weights_and_says_so(trained, short, teacher, capfd):
    path = authors_student(trained, "theirs.pth")
    rates = ["student.optimizer.lr=0", "student.schedule.warmup_lr=0", "student.schedule.min_lr=0"]
    assert main(["train", *short, teacher, f"student.init={path}", *rates, "paths.output_dir=run"]) == 0
    assert f"student: starts from {Path(path).absolute()}; fresh: nothing" in capfd.readouterr().out
    stored = read_checkpoint("run/student/last.ckpt")["state_dict"]
    theirs = read_checkpoint(path, external=True)["model"]
    assert all(torch.equal(stored[f"network.vit.{name}"], value) for name, value in theirs.items())
    differences = json.loads(Path("run/metrics.json").read_text())["recipe_differences"]
    assert any(line.startswith("student.init is ") for line in differences)
    for name in (path, "run/metrics.json", "run/student/result.json"):
        Path(name).unlink()
    assert main(["train", "resume=run"]) == 0  # it goes on from its own weights, and needs the others no more


class Code:
    """What an attacker would put into a file: unpickling it runs a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def turned(path, to):
    """Write a checkpoint with one bit of its weights turned, as disks and networks do now and then."""
    whole = bytearray(path.read_bytes())
    weights = max(read_checkpoint(path)["state_dict"].values(), key=torch.numel)
    whole[whole.index(bytes(weights.untyped_storage())) + 3] ^= 64  # of the exponent
    to.write_bytes(whole)


@pytest.fixture
def wrong_files(trained, tmp_path):
    """What `WRONG` names."""
    content = read_checkpoint(trained / "teacher" / "last.ckpt")
    for name, classes in (("three", ["a", "b", "c"]), ("letters", list("abcdefghij"))):
        torch.save(content | {"deitlt": content["deitlt"] | {"class_names": classes}}, tmp_path / f"{name}.ckpt")
    turned(trained / "teacher" / "last.ckpt", tmp_path / "turned.ckpt")
    whole = (trained / "teacher" / "last.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    for number, rest in enumerate((b"", b"hello", b"PK\x03\x04 not really", b"\x80\x02}q\x00.")):
        (tmp_path / f"{number}.ckpt").write_bytes(rest)
    torch.save({"state_dict": {}}, tmp_path / "weights.ckpt")
    torch.save({"state_dict": Code(f"touch {tmp_path}/ran")}, tmp_path / "evil.ckpt")
    (tmp_path / "evil4.pkl").write_bytes(pickle.dumps(Code(f"touch {tmp_path}/ran"), protocol=4))
    ldam_teacher(trained, tmp_path / "ldam.pth.tar")
    authors_student(trained, tmp_path / "theirs.pth")


OTHER_DATA = "data=folder data.root={images} data.max_count=null data.imbalance_factor=null"
HELD_OUT = "data.val_fraction=0.0, so that with data.val_fraction=0.2 it has seen images that this run holds out"
# What was typed beside the recipe -> what the sentence says.
WRONG = {
    "teacher.checkpoint=three.ckpt": ("knows 3 classes, but the data have 10", "teacher.checkpoint=null"),
    "teacher.checkpoint=letters.ckpt": ("knows other classes (a, b, c, ...", "than the data (0, 1, 2, ..."),
    "teacher.checkpoint={run}/student/last.ckpt": ("student/last.ckpt holds a student, no teacher",),
    "teacher.checkpoint=gone.ckpt": ("gone.ckpt; type the path of a .ckpt file",),
    "teacher.checkpoint=half.ckpt": ("half.ckpt is damaged: its list of parts is not as it was written",),
    "teacher.checkpoint=turned.ckpt": (
        "turned.ckpt is damaged: ",
        "put a copy of the file in its place, or type the path",
    ),
    "teacher.checkpoint=0.ckpt": ("0.ckpt is no checkpoint; type the path",),
    "teacher.checkpoint=1.ckpt": ("1.ckpt is no checkpoint; type the path",),
    "teacher.checkpoint=2.ckpt": ("2.ckpt is damaged: its list of parts is not as it was written",),
    "teacher.checkpoint=3.ckpt": ("3.ckpt", "type the path"),
    "teacher.checkpoint=weights.ckpt": ("weights.ckpt was not written by deitlt",),
    "teacher.checkpoint=evil.ckpt": ("evil.ckpt wants to run code while it is read, and was refused",),
    "teacher.checkpoint=evil4.pkl": ("evil4.pkl",),
    f"teacher.checkpoint=ldam.pth.tar {OTHER_DATA}": ("ldam.pth.tar knows 10 classes, but the data have 3; type",),
    "teacher.checkpoint={run} student.init=theirs.pth student.model.width=32": (
        "has width 16, but the student has 32; type student.model.width=16",
    ),
    "teacher.checkpoint={run} data.val_fraction=0.2": (
        f"The teacher in {{run}}/teacher/last.ckpt was trained with {HELD_OUT}",
        "type teacher.checkpoint=null to train one, or data.val_fraction=0.0.",
    ),
    "method=vit student.init={run} data.val_fraction=0.2": (
        f"The student in {{run}}/student/last.ckpt was trained with {HELD_OUT}",
        "type student.init=null as in the paper, or data.val_fraction=0.0.",
    ),
}


@pytest.mark.parametrize(("words", "said"), WRONG.items(), ids=WRONG)
def test_what_cannot_be_used_is_answered_with_one_sentence(
    words, said, complain, tiny, tiny_vit, trained, image_folder, wrong_files, tmp_path
):
    places = {"{run}": str(trained), "{images}": str(image_folder)}
    for name, place in places.items():
        words, said = words.replace(name, place), [part.replace(name, place) for part in said]
    sentence = complain("train", *(tiny_vit if "method=vit" in words else tiny), *words.split())
    for part in said:
        assert part in sentence
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("verb", ["evaluate", "predict", "export", "train"])
def test_no_verb_runs_what_a_file_holds(verb, tmp_path, complain, tiny):
    torch.save(Code(f"touch {tmp_path}/ran"), tmp_path / "evil.ckpt")
    words = {"predict": ["checkpoint=evil.ckpt", "images=."], "train": [*tiny, "teacher.checkpoint=evil.ckpt"]}
    output = "run" if verb in ("evaluate", "train") else None
    assert "was refused" in complain(verb, *words.get(verb, ["checkpoint=evil.ckpt"]), output=output)
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "evil.ckpt", weights_only=False)  # the proof that it would have
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("verb", ["evaluate", "predict", "export", "analyze"])
def test_no_verb_uses_weights_that_are_not_as_they_were_written(verb, trained, image_folder, tmp_path, complain):
    turned(trained / "student" / "last.ckpt", tmp_path / "turned.ckpt")
    words = ["checkpoint=turned.ckpt", *([f"images={image_folder}"] if verb == "predict" else [])]
    assert "turned.ckpt is damaged: " in complain(verb, *words, output="run" if verb == "evaluate" else None)


def test_no_run_goes_on_with_weights_that_are_not_as_they_were_written(trained, tmp_path, complain):
    shutil.copytree(trained, run := tmp_path / "run")
    for name in ("metrics.json", "baseline/result.json"):
        (run / name).unlink()
    turned(trained / "baseline" / "last.ckpt", run / "baseline" / "last.ckpt")
    assert f"{run}/baseline/last.ckpt is damaged: " in complain("train", f"resume={run}", output=None)


def stop(*_):
    raise Preempted()


@pytest.fixture
def stopped(monkeypatch):
    """Runs are prepared, and stop before anything is trained."""
    monkeypatch.setattr("deitlt.engine.run.run_stage", stop)


def test_a_start_that_says_nothing_is_doubted_once_until_there_are_weights_to_go_on_with(
    trained, tiny_vit, tmp_path, stopped, monkeypatch, capfd
):
    monkeypatch.setattr("deitlt.engine.checks.refuse_changed", lambda *_: None)  # the weights below know all images
    first, run = Path(authors_student(trained, "theirs.pth")).absolute(), tmp_path / "run"
    words = [f"student.init={first}", "data.val_fraction=0.2", "stages=[student,baseline]", f"paths.output_dir={run}"]
    assert main(["train", *tiny_vit, *words]) == Preempted.CODE
    doubt = f"student: {first} does not say whether it was trained on images that are held out here"
    assert capfd.readouterr().out.count(doubt) == 1
    for stage in ("student", "baseline"):
        (run / stage).mkdir(exist_ok=True)
        shutil.copy(trained / stage / "last.ckpt", run / stage)
    first.unlink()
    assert main(["train", f"resume={run}"]) == Preempted.CODE
    assert doubt not in capfd.readouterr().out


def test_a_teacher_of_data_that_changed_since_is_doubted_and_with_held_out_images_refused(
    image_folder, tiny, tmp_path, monkeypatch, capfd, complain
):
    words = ["data=folder", f"data.root={image_folder}", "data.imbalance_factor=null", "data.max_count=null"]
    for share in (0, 0.25):
        held_out = ["stages=[teacher]", f"data.val_fraction={share}", f"paths.output_dir={tmp_path}/{share}"]
        assert main(["train", *tiny, *words, *held_out]) == 0
    monkeypatch.setattr("deitlt.engine.run.run_stage", stop)
    (image_folder / "train" / "bee" / "0.png").unlink()
    same = [f"teacher.checkpoint={tmp_path}/0", *words]
    assert main(["train", *tiny, *same, "paths.output_dir=same"]) == Preempted.CODE
    changed = "class 'bee' had 8 training images and has 7"
    line = f"teacher: the data changed since {tmp_path}/0/teacher/last.ckpt was trained: {changed}"
    assert line in capfd.readouterr().out
    image_folder.rename(moved := tmp_path / "moved")
    assert main(["train", *tiny, *same, f"data.root={moved}", "paths.output_dir=moved_run"]) == Preempted.CODE
    assert changed not in capfd.readouterr().out  # it claims nothing of these data
    moved.rename(image_folder)
    refused = complain("train", *tiny, f"teacher.checkpoint={tmp_path}/0.25", *words, "data.val_fraction=0.25")
    assert "may have seen images that this run holds out, for the data changed since then: class 'bee' had 6" in refused


class FullDisk:
    """torch.save on a disk that is full after so many checkpoints."""

    def __init__(self, room):
        self.room = room
        self.save = torch.save

    def __call__(self, content, file, *args, **options):
        self.room -= 1
        if self.room < 0:
            file.write(b"half of a checkpoint")
            raise OSError(errno.ENOSPC, "No space left on device")
        self.save(content, file, *args, **options)


def test_a_full_disk_leaves_the_older_checkpoint_whole(tiny, teacher, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(torch, "save", FullDisk(room=2))
    assert main(["train", *tiny, teacher, "paths.output_dir=run"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    run = tmp_path / "run"
    assert "The disk is full" in line
    assert f"type deitlt train resume={run}" in line
    assert read_checkpoint(run / "student" / "last.ckpt")["epoch"] == 1
    assert not [path.name for path in run.rglob(".*")]  # no draft is left behind
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["train", f"resume={run}"]) == 0
    assert (run / "metrics.json").exists()


def test_a_full_disk_at_the_first_checkpoint_leaves_none(tiny, teacher, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(torch, "save", FullDisk(room=0))
    assert main(["train", *tiny, teacher, "paths.output_dir=run"]) == 2
    assert "free some space and start anew" in capfd.readouterr().err
    assert not list((tmp_path / "run").rglob("*.ckpt"))
