"""Exported files answer as PyTorch does, say what they are, and are all written or none."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from external_files import make_spec
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models import load_checkpoint

import deitlt
from deitlt.checkpoints import load_student, load_teacher, read_stored
from deitlt.checkpoints.export import FORMATS, Exported, export, export_files, no_timm_form, without_folders
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
    config = hub_folder(network, spec, tmp_path / "hub")  # compared as timm reads it, if timm has it
    assert config["architecture"] == ("resnet10t" if name == "resnet10t" else "deitlt.models.create_teacher")


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


def hub_folder(network, spec, folder):
    files = export(network, spec, ["hub"], folder, card="a card")
    assert [file.name for file in files] == ["README.md", "config.json", "model.safetensors"]
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("student", STUDENT),
        ("student", STUDENT | {"distilled": False, "heads": None, "width": 64, "patch_size": 8}),
        ("student", STUDENT | {"name": "deit3_small_patch16_224", "distilled": False}),
        ("teacher", {"name": "resnet10t", "head": "linear"}),
    ],
)
def test_a_folder_for_the_hub_is_made_by_timm_and_answers_alike(kind, model, tmp_path):
    network = scattered((create_student if kind == "student" else create_teacher)(4, **model))
    hub_folder(network, make_spec(kind, model), tmp_path / "hub")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    answer = outputs(network)
    if kind == "student":
        answer = answer.cls if answer.dist is None else (answer.cls + answer.dist) / 2
    torch.testing.assert_close(outputs(theirs), answer, atol=1e-4, rtol=0)
    assert theirs.pretrained_cfg["label_names"] == SPEC.class_names
    data = timm.data.resolve_model_data_config(theirs)
    assert (data["input_size"], list(data["mean"]), list(data["std"])) == ([3, 16, 16], SPEC.mean, SPEC.std)
    assert (data["crop_pct"], data["crop_mode"], data["interpolation"]) == (0.875, "center", "bicubic")
    ours = (load_student if kind == "student" else load_teacher)(tmp_path / "hub")
    found = ours(PIXELS)
    assert torch.equal(found if kind == "teacher" else found.cls, getattr(network(PIXELS), "cls", network(PIXELS)))


@pytest.mark.parametrize(
    ("kind", "model", "said"),
    [
        ("student", STUDENT | {"stem": "conv"}, "stem of convolutions before the blocks"),
        ("teacher", {"name": "cifar_resnet8", "head": "cosine"}, "cifar_resnet8"),
        ("teacher", {"name": "resnet10t", "head": "cosine"}, "resnet10t with a cosine classifier"),
    ],
)
def test_what_timm_cannot_make_is_read_by_deitlt_alone(kind, model, said, tmp_path):
    network = scattered((create_student if kind == "student" else create_teacher)(4, **model))
    spec = make_spec(kind, model, logit_scale=30.0)
    assert no_timm_form(network, spec) == said
    hub_folder(network, spec, tmp_path / "hub")
    with pytest.raises(RuntimeError, match="Unknown model"):
        timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True)
    stored = read_stored(tmp_path / "hub" / "model.safetensors")
    assert (stored.spec, stored.average) == (replace(spec, data={"name": "folder", "root": "images"}), None)
    network, ours = network(PIXELS), stored.build()(PIXELS)
    assert torch.equal(ours, network) if kind == "teacher" else torch.equal(ours.dist, network.dist)


def test_a_folder_that_timm_reads_otherwise_is_not_kept(student, tmp_path, monkeypatch):
    made = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: made(name, pretrained=False))
    with pytest.raises(
        CheckpointError, match="The folder as timm reads it does not answer 1 image as PyTorch does: avg"
    ):
        export(student, SPEC, ["hub"], tmp_path / "hub")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_safetensors_that_lies_is_refused(student, tmp_path):
    (path,) = export(student, SPEC, ["safetensors"], tmp_path)
    content = path.read_bytes()
    for old, new, said in (
        (b'\\"deit_tiny', b'\\"deit_tinY', "deit_tinY"),
        (b"deitlt.models.create_student", b"builtins.eval" + b"_" * 15, "builtins.eval"),
        (b'\\"width\\": 16', b'\\"width\\": 32', "does not hold the weights that it says it holds"),
        (b"[0.1, 0.2, 0.3]", b"[0.1, 0.2, 0.3 ", "The header of .* is damaged"),
    ):
        assert old in content
        path.write_bytes(content.replace(old, new))
        with pytest.raises((CheckpointError, ConfigError), match=said):
            read_stored(path).build()


def test_only_names_are_left_of_where_files_lay():
    typed = "data.root='/home/me/my images' teacher.checkpoint=~/runs/7 data={root:/a/b,name:x} student/loss=bce"
    left = "data.root='my images' teacher.checkpoint=7 data={root:b,name:x} student/loss=bce"
    assert without_folders(typed) == left
    assert without_folders("hf://me/mine wandb:me/it/x:v0 timm:deit") == "hf://me/mine wandb:me/it/x:v0 timm:deit"
    assert without_folders("data.test_csv is /a/b.csv, not None") == "data.test_csv is b.csv, not None"


BLOCKED = """
import sys

sys.modules["deitlt"] = None  # so that an import of it fails
import numpy, timm, torch
from PIL import Image

model = timm.create_model(f"local-dir:{sys.argv[1]}", pretrained=True).eval()
data = timm.data.resolve_model_data_config(model)
pixels = timm.data.create_transform(**data)(Image.open(f"{sys.argv[1]}/picture.png"))[None]
with torch.no_grad():
    numpy.savez(f"{sys.argv[1]}/found.npz", pixels=pixels, logits=model(pixels))
"""


@pytest.mark.slow
@pytest.mark.parametrize("crop_share", [0.875, 1.0])
def test_timm_alone_sees_a_picture_and_answers_as_deitlt_does(crop_share, student, tmp_path):
    hub_folder(student, replace(SPEC, crop_share=crop_share), tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (40, 23, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    picture.save(tmp_path / "picture.png")
    subprocess.run([sys.executable, "-I", "-c", BLOCKED, str(tmp_path)], check=True)
    found, model = np.load(tmp_path / "found.npz"), deitlt.load(tmp_path)
    np.testing.assert_allclose(found["pixels"][0], model.transform(picture), atol=1e-5)
    cls, dist = model.trained.logits(model.transform(picture)[None])
    np.testing.assert_allclose(found["logits"], (cls + dist) / 2, atol=1e-4)
