import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models import load_checkpoint

import deitlt
from deitlt.checkpoints import ModelCard, export_graph, exporting, load_student
from deitlt.checkpoints.export_graph import ExportedNetwork, check_answers
from deitlt.checkpoints.exporting import export, export_files
from deitlt.errors import CheckpointError, ConfigError
from deitlt.models import create_paco_teacher, create_student, create_teacher

CLASSES = ["ant", "bee", "cat", "dog"]
MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
SIZES = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
STUDENT = {"name": "deit_tiny_patch16_224", "drop_path": 0.1, **SIZES}
PIXELS = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def card(kind, model, logit_scale=1.0, maker=None):
    return ModelCard(
        kind=kind,
        maker=maker or f"create_{kind}",
        model=model,
        image_size=16,
        mean=MEAN,
        std=STD,
        crop_share=0.875,
        logit_scale=logit_scale,
        protocol="last",
        class_names=CLASSES,
        labels=[0, 1, 2, 3],
        authors_labels=[],
        counts=[40, 20, 8, 2],
        groups={"head": [0], "mid": [1, 2], "tail": [3]},
        data={"name": "folder", "root": "/somebody/elses/images"},
    )


def scattered(network):
    """Weights at random, so that no answer is near to another."""
    torch.manual_seed(1)
    for name, value in network.named_parameters():
        if name.endswith("weight") and value.ndim > 1:
            torch.nn.init.normal_(value, std=0.3)
    return network.eval()


@torch.no_grad()
def answers(network):
    """What PyTorch answers, from normalised images."""
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return network((PIXELS - mean) / std)


@pytest.fixture(scope="module")
def student():
    return scattered(create_student(4, **STUDENT))


@pytest.fixture(scope="module")
def folder(student, tmp_path_factory):
    """A student in every format."""
    place = tmp_path_factory.mktemp("exported") / "new" / "folder"
    files = export(student, card("student", STUDENT), ["authors", "onnx", "safetensors", "torch_export"], place)
    assert files == sorted(place.iterdir())
    assert [file.name for file in files] == ["model.onnx", "model.pt2", "model.pth", "model.safetensors"]
    return place


def ask_onnx(path, pixels):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"pixels": pixels.numpy()}), strict=True))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_an_onnx_graph_answers_pixels_as_pytorch_does(batch, folder, student):
    found, expected = ask_onnx(folder / "model.onnx", PIXELS[:batch]), answers(student)
    assert list(found) == ["cls", "dist", "avg"]
    np.testing.assert_allclose(found["cls"], expected.cls[:batch], atol=1e-4)
    np.testing.assert_allclose(found["dist"], expected.dist[:batch], atol=1e-4)
    np.testing.assert_allclose(found["avg"], (expected.cls + expected.dist)[:batch] / 2, atol=1e-4)
    assert np.abs(found["cls"] - found["dist"]).max() > 0.1


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_torch_export_program_answers_pixels_as_pytorch_does(batch, folder, student):
    found, expected = torch.export.load(folder / "model.pt2").module()(PIXELS[:batch]), answers(student)
    assert list(found) == ["cls", "dist", "avg"]
    torch.testing.assert_close(found["cls"], expected.cls[:batch], atol=1e-4, rtol=0)
    torch.testing.assert_close(found["avg"], (expected.cls + expected.dist)[:batch] / 2, atol=1e-4, rtol=0)


def read_metadata(path):
    if path.suffix == ".onnx":
        return onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    if path.suffix == ".pt2":
        extra = dict.fromkeys(("class_names", "mean", "std", "image_size", "groups", "input", "view", "outputs"), "")
        torch.export.load(path, extra_files=extra)
        return extra
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model.safetensors"])
def test_a_file_holds_class_names_and_normalisation(name, folder):
    found = {key: json.loads(value) for key, value in read_metadata(folder / name).items() if key != "format"}
    assert found["class_names"] == CLASSES
    assert (found["mean"], found["std"], found["image_size"]) == (MEAN, STD, 16)
    assert found["groups"] == {"head": [0], "mid": [1, 2], "tail": [3]}
    assert found["outputs"] == ["cls", "dist", "avg"]
    assert found["view"] == "resize the shorter side to 18 pixels, bicubic, and take the central 16 x 16"
    assert ("applied inside" in found["input"]) == (name != "model.safetensors")


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model.safetensors"])
def test_a_file_tells_nothing_of_the_machine_that_wrote_it(name, folder):
    content = (folder / name).read_bytes()
    for place in (Path(deitlt.__file__).parent, Path(torch.__file__).parent, "/somebody/elses"):
        assert str(place).encode() not in content


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_weights_are_read_by_timm(name, folder, student):
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=4, **sizes)
    load_checkpoint(model, str(folder / name), strict=True)
    expected = answers(student)  # timm answers the mean of the heads
    torch.testing.assert_close(answers(model.eval()), (expected.cls + expected.dist) / 2, atol=1e-5, rtol=0)


def test_a_plain_vit_has_one_answer(tmp_path):
    network = scattered(create_student(4, **STUDENT, distilled=False))
    (path,) = export(network, card("student", STUDENT | {"distilled": False}), ["torch_export"], tmp_path)
    found = torch.export.load(path).module()(PIXELS)
    assert list(found) == ["cls"]
    torch.testing.assert_close(found["cls"], answers(network).cls, atol=1e-4, rtol=0)


def run_program(path, pixels):
    return torch.export.load(path).module()(pixels)


@pytest.mark.parametrize(
    ("model", "scale", "form", "ask"),
    [
        ({"name": "cifar_resnet8", "head": "cosine"}, 30.0, "onnx", ask_onnx),
        ({"name": "resnet10t", "head": "linear"}, 1.0, "torch_export", run_program),
    ],
)
def test_a_teacher_answers_logits_with_their_scale(model, scale, form, ask, tmp_path):
    network = scattered(create_teacher(4, **model))
    (path,) = export(network, card("teacher", model, scale), [form], tmp_path)
    found, expected = ask(path, PIXELS), (scale * answers(network)).numpy()
    assert list(found) == ["logits"]
    np.testing.assert_allclose(np.asarray(found["logits"]), expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_a_timm_teacher_loads_where_timm_made_it(tmp_path):
    network = scattered(create_teacher(4, "resnet10t"))
    export(network, card("teacher", {"name": "resnet10t"}), ["safetensors"], tmp_path)
    model = timm.create_model("resnet10t", num_classes=4)
    load_checkpoint(model, str(tmp_path / "model.safetensors"), strict=True)
    assert torch.equal(answers(model.eval()), answers(network))


@pytest.mark.parametrize("name", ["cifar_resnet8", "resnet10t"])
def test_a_paco_teacher_is_exported_as_the_cnn_that_answers(name, tmp_path):
    model = {"name": name, "dim": 8, "queue_size": 16, "momentum": 0.9}
    network = scattered(create_paco_teacher(4, **model))
    torch.nn.init.normal_(network.linear.bias)
    (path,) = export(network, card("teacher", model, maker="create_paco_teacher"), ["safetensors"], tmp_path)
    found = {key: json.loads(value) for key, value in read_metadata(path).items() if key != "format"}
    assert (found["maker"], found["model"]) == ("create_teacher", {"name": name, "head": "linear"})
    plain = create_teacher(4, **found["model"])
    plain.load_state_dict(load_file(path))
    assert torch.equal(answers(plain.eval()), answers(network))


def off(network, by):
    return lambda pixels: {name: logits + by for name, logits in network(pixels).items()}


def nothing(pixels):
    return {"cls": torch.full((len(pixels), 4), torch.nan)}


def test_answers_are_compared_by_name_shape_and_value():
    network = ExportedNetwork(
        scattered(create_student(4, **STUDENT, distilled=False)), card("student", STUDENT).normalisation
    )
    check_answers(network, network, 16, "model.onnx")
    check_answers(network, off(network, 1e-5), 16, "model.onnx")
    with pytest.raises(
        CheckpointError, match=r"model\.onnx does not answer 1 image as PyTorch does: cls is off by 0\.1"
    ):
        check_answers(network, off(network, 0.1), 16, "model.onnx")
    with pytest.raises(CheckpointError, match="cls is off by nan"):
        check_answers(network, nothing, 16, "model.onnx")
    with pytest.raises(CheckpointError, match="it gives logits in place of cls"):
        check_answers(network, lambda pixels: {"logits": network(pixels)["cls"]}, 16, "model.onnx")
    with pytest.raises(CheckpointError, match=r"3 images .* cls has the shape \(1, 4\)"):
        check_answers(network, lambda pixels: {"cls": network(pixels)["cls"][:1]}, 16, "model.onnx")


def test_a_wrong_file_is_not_kept_nor_any_other(student, tmp_path, monkeypatch):
    monkeypatch.setattr(export_graph, "TOLERANCE", -1.0)
    with pytest.raises(CheckpointError, match=r"model\.pt2 does not answer 1 image as PyTorch does"):
        export(student, card("student", STUDENT), ["safetensors", "torch_export"], tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_are_not_written_over(student, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert [p.name for p in export(student, card("student", STUDENT), ["safetensors"], tmp_path)] == [
        "model.safetensors"
    ]
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"model\.safetensors exists already; delete it, or type output=FOLDER"):
        export(student, card("student", STUDENT), ["authors", "safetensors"], tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "notes.txt"]
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_what_onnx_needs_is_named_if_it_is_not_installed(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else found(name))
    assert export_files(["safetensors"], tmp_path) == {"safetensors": tmp_path / "model.safetensors"}
    with pytest.raises(
        ConfigError, match=r"needs onnx and onnxscript and onnxruntime.* pip install 'deitlt\[export\]'"
    ):
        export_files(["onnx"], tmp_path)


@pytest.mark.parametrize(("formats", "said"), [([], "names no format"), (["onxx"], "did you mean 'onnx'")])
def test_formats_that_there_are_not_are_named(formats, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        export_files(formats, tmp_path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file is a file; type output=FOLDER"):
        exporting.export_files(["safetensors"], tmp_path / "file")


def test_the_authors_file_has_its_classes_in_the_authors_order(student, tmp_path):
    sorted_by_count = replace(card("student", STUDENT), labels=[2, 0, 1, 3], authors_labels=[2, 1, 0, 3])
    (path,) = export(student, sorted_by_count, ["authors"], tmp_path / "out")
    theirs = load_student(path)(PIXELS)
    ours = student(PIXELS)
    torch.testing.assert_close(theirs.cls, ours.cls[:, [0, 2, 1, 3]])
    torch.testing.assert_close(theirs.dist, ours.dist[:, [0, 2, 1, 3]])
