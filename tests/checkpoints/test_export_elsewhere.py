"""An exported file is asked from an environment that has onnxruntime, and neither PyTorch nor this project."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

from deitlt.checkpoints import ModelCard
from deitlt.checkpoints.exporting import export
from deitlt.models import create_student

pytestmark = pytest.mark.slow

CLASSES = ["ant", "bee", "cat", "dog"]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
MODEL = {"name": "deit_tiny_patch16_224", "image_size": 32, "patch_size": 4, "width": 32, "depth": 3, "heads": 2}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The Python of a new environment with onnxruntime and what that needs."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "onnxruntime", "numpy"]
    impatient = os.environ | {"PIP_RETRIES": "0", "PIP_DEFAULT_TIMEOUT": "20"}
    done = subprocess.run(pip, env=impatient, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"onnxruntime cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    return python


def exported(folder):
    """An ONNX file, pixels, and PyTorch's logits of the same pixels, normalised by hand."""
    torch.manual_seed(0)
    network = create_student(4, **MODEL).eval()
    for name, weight in network.named_parameters():
        if name.endswith("weight") and weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)
    place = {"image_size": 32, "mean": MEAN, "std": STD, "crop_share": 0.875}
    classes = {
        "class_names": CLASSES,
        "labels": [0, 1, 2, 3],
        "authors_labels": [],
        "counts": [9, 5, 2, 1],
        "groups": {},
        "data": {},
    }
    made = {"kind": "student", "maker": "create_student", "model": MODEL}
    card = ModelCard(**made, **place, **classes, logit_scale=1.0, protocol="last")
    (path,) = export(network, card, ["onnx"], folder)
    pixels = torch.rand(8, 3, 32, 32)
    with torch.no_grad():
        answer = network((pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    logits = {"cls": answer.cls, "dist": answer.dist, "avg": (answer.cls + answer.dist) / 2}
    np.savez(folder / "logits.npz", pixels=pixels, **logits)
    return path, folder / "logits.npz", [CLASSES[c] for c in logits["avg"].argmax(dim=1)]


def test_a_fresh_environment_reads_the_file_and_answers_alike(elsewhere, tmp_path):
    model, logits, decisions = exported(tmp_path)
    script = Path(__file__).with_name("ask_onnx.py")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [elsewhere, "-I", script, model, logits]
    done = subprocess.run(command, env=clean, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sys.stdout.write(done.stdout)
    found = json.loads(done.stdout)
    assert Path(found["python"]) == elsewhere
    assert set(found["furthest"]) == {"cls", "dist", "avg"}
    assert max(found["furthest"].values()) < 1e-4
    assert (found["class_names"], found["mean"]) == (CLASSES, MEAN)
    assert found["decisions"] == decisions
    assert len(set(decisions)) > 1
