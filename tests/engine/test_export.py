import json
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from deitlt.checkpoints import load_student, load_teacher, read_card
from deitlt.checkpoints.export_formats import FORMATS
from deitlt.cli import main
from deitlt.commands.export import card_in_answers_order
from deitlt.config.checks import CHOICES

PIXELS = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def normalised(card):
    return (PIXELS - torch.tensor(card.mean).view(3, 1, 1)) / torch.tensor(card.std).view(3, 1, 1)


def ask(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return session, dict(zip(names, session.run(None, {"pixels": PIXELS.numpy()}), strict=True))


def near(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, float(expected.abs().max())))


@torch.no_grad()
def test_a_run_is_exported_to_every_format(trained, tmp_path, capfd):
    words = ["formats=[safetensors,onnx,torch_export,authors]", "output=out/files"]
    assert main(["export", f"checkpoint={trained}", *words]) == 0
    shown = capfd.readouterr()
    names = ["model.onnx", "model.pt2", "model.pth", "model.safetensors"]
    assert [line.split(": ")[0] for line in shown.out.splitlines()] == [f"out/files/{name}" for name in names]
    assert shown.err == ""
    assert sorted(path.name for path in (tmp_path / "out" / "files").iterdir()) == names
    checkpoint = trained / "student" / "last.ckpt"
    card, expected = read_card(checkpoint), load_student(checkpoint)(normalised(read_card(checkpoint)))
    session, found = ask("out/files/model.onnx")
    near(found["cls"], expected.cls)
    near(found["dist"], expected.dist)
    near(found["avg"], (expected.cls + expected.dist) / 2)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == card.class_names
    program = torch.export.load("out/files/model.pt2").module()
    near(program(PIXELS)["avg"], (expected.cls + expected.dist) / 2)


@torch.no_grad()
def test_an_exported_authors_file_is_read_again(trained, tmp_path):
    assert main(["export", f"checkpoint={trained}", "formats=[authors]", "output=out"]) == 0
    ours, theirs = load_student(trained / "student" / "last.ckpt"), load_student(tmp_path / "out" / "model.pth")
    for a, b in zip(ours(PIXELS), theirs(PIXELS), strict=True):
        assert torch.equal(a, b)


def test_a_file_that_deitlt_did_not_write_is_exported_by_its_recipe(trained, tmp_path, complain):
    assert main(["export", f"checkpoint={trained}", "formats=[authors,safetensors]", "output=out"]) == 0
    words = ["checkpoint=out/model.pth", "formats=[safetensors]", "output=again"]
    assert "type experiment=NAME" in complain("export", *words, output=None)
    assert main(["export", *words, "experiment=digits"]) == 0
    ours, theirs = load_file("out/model.safetensors"), load_file("again/model.safetensors")
    assert all(torch.equal(theirs[name], weight) for name, weight in ours.items())
    with safe_open("again/model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["class_names"]) == read_card(trained / "student" / "last.ckpt").class_names
    assert json.loads(metadata["image_size"]) == 16


def test_the_moving_average_is_exported_if_it_is_asked_for(trained):
    for ema in ("false", "true"):
        words = ["formats=[safetensors]", f"ema={ema}", f"output=ema_{ema}"]
        assert main(["export", f"checkpoint={trained}", *words]) == 0
        expected = load_student(trained / "student" / "last.ckpt", ema=ema == "true").vit.state_dict()
        found = load_file(f"ema_{ema}/model.safetensors")
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    raw, average = (load_file(f"ema_{ema}/model.safetensors") for ema in ("false", "true"))
    assert not torch.equal(raw["cls_token"], average["cls_token"])


@torch.no_grad()
def test_a_teacher_and_a_plain_vit_have_one_answer(trained):
    found = {}
    for stage in ("teacher", "baseline"):
        words = [f"stage={stage}", "formats=[torch_export]", f"output={stage}"]
        assert main(["export", f"checkpoint={trained}", *words]) == 0
        found[stage] = torch.export.load(f"{stage}/model.pt2").module()(PIXELS)
    teacher, baseline = trained / "teacher" / "last.ckpt", trained / "baseline" / "last.ckpt"
    card = read_card(teacher)
    assert card.logit_scale == 30
    assert list(found["teacher"]) == ["logits"]
    near(found["teacher"]["logits"], 30 * load_teacher(teacher)(normalised(card)))
    assert list(found["baseline"]) == ["cls"]
    near(found["baseline"]["cls"], load_student(baseline)(normalised(read_card(baseline))).cls)


def test_classes_are_named_in_the_order_of_the_files_answers(trained):
    card = read_card(trained / "student" / "last.ckpt")
    order = torch.tensor([3, 1, 4, 0, 2, 9, 8, 7, 6, 5])  # class c is the answer's column order[c]
    found = card_in_answers_order(SimpleNamespace(card=card, class_order=order))
    logits = torch.rand(4, 10)
    for row in logits:
        ours = card.class_names[row.index_select(0, order).argmax()]
        assert found.class_names[row.argmax()] == ours
    assert card_in_answers_order(SimpleNamespace(card=card, class_order=None)) is card


# What was typed -> what the sentence says: the value, and what to type.
WRONG = {
    "checkpoint=gone": ("There is no checkpoint gone",),
    "checkpoint={run} formats=[onxx]": ("formats=['onxx'] is no choice", "did you mean 'onnx'"),
    "checkpoint={run} formats=onnx": ("formats=onnx is not a list", "type formats=["),
    "checkpoint={run} formats=[]": ("formats=[] names no format", "type formats=[safetensors"),
    "checkpoint={run} stage=teacher formats=[authors]": ("formats=[authors] is a student's file", "stage=student"),
    "checkpoint={run} stage=teacher ema=true": ("ema=true", "type ema=false"),
    "checkpoint={run} stage=techer": ("stage=techer is no stage", "did you mean 'teacher'"),
    "checkpoint={run} output=taken": ("model.safetensors exists already", "type output=FOLDER"),
    "checkpoint={run} output=taken/model.safetensors": ("is a file; type output=FOLDER",),
    "checkpoint={run} outputs=x": ("outputs is no key", "did you mean 'output'"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.items(), ids=WRONG)
def test_what_cannot_be_exported_is_answered_with_one_sentence(words, said, complain, trained, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "model.safetensors").write_bytes(b"mine")
    sentence = complain("export", *words.replace("{run}", str(trained)).split(), output=None)
    for part in said:
        assert part in sentence


def test_without_a_checkpoint_it_is_asked_for(complain):
    assert "type checkpoint=" in complain("export", output=None)


def test_the_formats_are_known_before_torch_is_loaded():
    assert CHOICES["formats"] == tuple(FORMATS)
