"""Exported files answer as PyTorch does, say what they are, and are all written or none."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from external_files import make_spec
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models import load_checkpoint

import deitlt
from deitlt.checkpoints import load_student
from deitlt.checkpoints.export import FORMATS, Exported, export, export_files
from deitlt.config.keys import keys_of
from deitlt.config.verbs import SCHEMAS
from deitlt.errors import CheckpointError, ConfigError
from deitlt.models import create_paco_teacher, create_student, create_teacher

SIZES = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
STUDENT = {"name": "deit_tiny_patch16_224", "drop_path": 0.1, **SIZES}
SPEC = make_spec("student", STUDENT)
PIXELS = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def scattered(network):
    """Weights at random, so that no output is near to another."""
    torch.manual_seed(1)
    for name, value in network.named_parameters():
        if name.endswith("weight") and value.ndim > 1:
            torch.nn.init.normal_(value, std=0.3)
    return network.eval()


@torch.no_grad()
def outputs(network):
    """What PyTorch gives, from normalised images."""
    mean, std = torch.tensor(SPEC.mean).view(3, 1, 1), torch.tensor(SPEC.std).view(3, 1, 1)
    return network((PIXELS - mean) / std)


@pytest.fixture(scope="module")
def student():
    return scattered(create_student(4, **STUDENT))


@pytest.fixture(scope="module")
def folder(student, tmp_path_factory):
    """A student in every format."""
    place = tmp_path_factory.mktemp("exported") / "new" / "folder"
    files = export(student, SPEC, ["authors", "onnx", "safetensors", "torch_export"], place)
    assert files == sorted(place.iterdir())
    assert [file.name for file in files] == ["model.onnx", "model.pt2", "model.pth", "model.safetensors"]
    return place


def ask(path, pixels):
    """Logits by name, of an ONNX graph or a `torch.export` program."""
    if path.suffix == ".pt2":
        return {name: logits.numpy() for name, logits in torch.export.load(path).module()(pixels).items()}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"pixels": pixels.numpy()}), strict=True))


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2"])
def test_a_graph_answers_any_number_of_pixels_as_pytorch_does(name, folder, student):
    expected = outputs(student)
    for batch in (1, 2, 5):
        found = ask(folder / name, PIXELS[:batch])
        assert list(found) == ["cls", "dist", "avg"]
        np.testing.assert_allclose(found["cls"], expected.cls[:batch], atol=1e-4)
        np.testing.assert_allclose(found["dist"], expected.dist[:batch], atol=1e-4)
        np.testing.assert_allclose(found["avg"], (expected.cls + expected.dist)[:batch] / 2, atol=1e-4)
    assert np.abs(found["cls"] - found["dist"]).max() > 0.1


def read_metadata(path):
    if path.suffix == ".onnx":
        found = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    elif path.suffix == ".pt2":
        found = dict.fromkeys(("class_names", "mean", "std", "image_size", "groups", "input", "view", "outputs"), "")
        torch.export.load(path, extra_files=found)
    else:
        with safe_open(path, "pt") as file:
            found = file.metadata()
    return {key: json.loads(value) for key, value in found.items() if key != "format"}


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model.safetensors"])
def test_a_file_says_what_it_is_and_nothing_of_the_machine_that_wrote_it(name, folder):
    found = read_metadata(folder / name)
    assert found["class_names"] == SPEC.class_names
    assert (found["mean"], found["std"], found["image_size"]) == (SPEC.mean, SPEC.std, 16)
    assert found["groups"] == SPEC.groups
    assert found["outputs"] == ["cls", "dist", "avg"]
    assert found["view"] == "resize the shorter side to 18 pixels, bicubic, and take the central 16 x 16"
    assert ("applied inside" in found["input"]) == (name != "model.safetensors")
    content = (folder / name).read_bytes()
    for place in (Path(deitlt.__file__).parent, Path(torch.__file__).parent, "/somebody/elses"):
        assert str(place).encode() not in content


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_weights_are_read_by_timm(name, folder, student):
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=4, **sizes)
    load_checkpoint(model, str(folder / name), strict=True)
    expected = outputs(student)  # timm gives the mean of the heads
    torch.testing.assert_close(outputs(model.eval()), (expected.cls + expected.dist) / 2, atol=1e-5, rtol=0)


def test_a_plain_vit_has_one_answer(tmp_path):
    network = scattered(create_student(4, **STUDENT, distilled=False))
    (path,) = export(network, make_spec("student", STUDENT | {"distilled": False}), ["torch_export"], tmp_path)
    found = ask(path, PIXELS)
    assert list(found) == ["cls"]
    np.testing.assert_allclose(found["cls"], outputs(network).cls, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "scale", "form"),
    [
        ({"name": "cifar_resnet8", "head": "cosine"}, 30.0, "onnx"),
        ({"name": "resnet10t", "head": "linear"}, 1.0, "torch_export"),
    ],
)
def test_a_teacher_answers_logits_with_their_scale(model, scale, form, tmp_path):
    network = scattered(create_teacher(4, **model))
    (path,) = export(network, make_spec("teacher", model, logit_scale=scale), [form], tmp_path)
    found, expected = ask(path, PIXELS), (scale * outputs(network)).numpy()
    assert list(found) == ["logits"]
    np.testing.assert_allclose(found["logits"], expected, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", ["cifar_resnet8", "resnet10t"])
def test_a_paco_teacher_is_exported_as_the_cnn_that_answers(name, tmp_path):
    model = {"name": name, "dim": 8, "queue_size": 16, "momentum": 0.9}
    network = scattered(create_paco_teacher(4, **model))
    torch.nn.init.normal_(network.linear.bias)
    spec = make_spec("teacher", model, target="deitlt.models.create_paco_teacher")
    (path,) = export(network, spec, ["safetensors"], tmp_path)
    found = read_metadata(path)
    assert (found["target"], found["model"]) == ("deitlt.models.create_teacher", {"name": name, "head": "linear"})
    plain = create_teacher(4, **found["model"])
    plain.load_state_dict(load_file(path))
    assert torch.equal(outputs(plain.eval()), outputs(network))


def test_outputs_are_compared_by_name_shape_and_value():
    exported = Exported(scattered(create_student(4, **STUDENT, distilled=False)), SPEC)

    def check(change):
        exported.compare(lambda pixels: change(exported.graph(pixels)["cls"]), "model.onnx")

    check(lambda cls: {"cls": cls})
    check(lambda cls: {"cls": cls + 1e-5})
    with pytest.raises(CheckpointError, match=r"model\.onnx does not answer 1 image as PyTorch .*: cls is off by 0\.1"):
        check(lambda cls: {"cls": cls + 0.1})
    with pytest.raises(CheckpointError, match="cls is off by nan"):
        check(lambda cls: {"cls": cls * torch.nan})
    with pytest.raises(CheckpointError, match="it gives logits in place of cls"):
        check(lambda cls: {"logits": cls})
    with pytest.raises(CheckpointError, match=r"3 images .* cls has the shape \(1, 4\)"):
        check(lambda cls: {"cls": cls[:1]})


def test_a_wrong_file_is_not_kept_nor_any_other(student, tmp_path, monkeypatch):
    monkeypatch.setattr("deitlt.checkpoints.export.TOLERANCE", -1.0)
    with pytest.raises(CheckpointError, match=r"model\.pt2 does not answer 1 image as PyTorch does"):
        export(student, SPEC, ["safetensors", "torch_export"], tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_are_not_written_over(student, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert [p.name for p in export(student, SPEC, ["safetensors"], tmp_path)] == ["model.safetensors"]
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"model\.safetensors exists already; delete it, or type output=FOLDER"):
        export(student, SPEC, ["authors", "safetensors"], tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "notes.txt"]
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_what_cannot_be_written_is_known_before_anything_is_read(tmp_path, monkeypatch):
    assert keys_of(SCHEMAS["export"])["formats"].choices == tuple(FORMATS)
    for formats, said in (([], "names no format"), (["onxx"], "did you mean 'onnx'")):
        with pytest.raises(ConfigError, match=said):
            export_files(formats, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file is a file; type output=FOLDER"):
        export_files(["safetensors"], tmp_path / "file")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else found(name))
    assert export_files(["safetensors"], tmp_path) == {"safetensors": tmp_path / "model.safetensors"}
    with pytest.raises(ConfigError, match=r"needs onnx and onnxscript and onnxruntime.* 'deitlt\[export\]'"):
        export_files(["onnx"], tmp_path)


def test_the_authors_file_has_its_classes_in_the_authors_order(student, tmp_path):
    sorted_by_count = replace(SPEC, labels=[2, 0, 1, 3], authors_labels=[2, 1, 0, 3])
    (path,) = export(student, sorted_by_count, ["authors"], tmp_path / "out")
    for ours, theirs in zip(student(PIXELS), load_student(path)(PIXELS), strict=True):
        torch.testing.assert_close(theirs, ours[:, [0, 2, 1, 3]])
