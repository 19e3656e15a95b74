import copy
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deitlt.reports.runs import read_runs

_METRICS = {
    "experiment": "digits",
    "seed": 0,
    "teacher": {"all": 95.04, "balanced": 95.04, "head": 99.0, "mid": 95.2, "tail": 90.0, "top5": 99.9},
    "student": {
        "cls": {"all": 73.8, "balanced": 73.8, "head": 99.4, "mid": 80.0, "tail": 27.2, "top5": 95.0},
        "dist": {"all": 86.1, "balanced": 86.1, "head": 94.0, "mid": 90.0, "tail": 69.3, "top5": 98.0},
        "avg": {"all": 81.0, "balanced": 81.0, "head": 98.0, "mid": 88.0, "tail": 48.9, "top5": 97.0},
    },
    "student_ema": {"cls": {"all": 74.0, "balanced": 74.0, "head": 99.0, "mid": 80.5, "tail": 28.0}},
    "baseline": {"cls": {"all": 74.4, "balanced": 74.4, "head": 99.4, "mid": 81.0, "tail": 27.6}},
    "protocol": "last",
    "groups": {"head": [0, 1], "mid": [2, 3], "tail": [4]},
    "counts": [1200, 60, 30, 12, 1],
    "class_names": ["a", "b", "c", "d", "e"],
    "recipe_differences": ["student.epochs is 150, the recipe says 1200"],
    "seconds": {"teacher": 20.0, "student": 35.0},
}


@pytest.fixture
def metrics():
    """A run's metrics.json, free to change."""
    return copy.deepcopy(_METRICS)


_STAGE = {"drw": {"start_epoch": 2}, "epochs": 4, "model": {"name": "deit_tiny", "depth": 4}, "sam": {"enabled": True}}
_STRONG = {
    "train": {"_target_": "deitlt.transforms.student_transform"},
    "mixing": {"mixup": 0.8},
    "teacher_sees": "both",
}
_WEAK = {"train": {"_target_": "deitlt.transforms.weak_transform"}, "mixing": None}
_DISTILLED = {**_STAGE, "distillation": {"kind": "hard"}, "transforms": _STRONG}
_TRAINER = {"accelerator": "cpu", "devices": 1, "precision": "32-true"}
_CURVES = """epoch,step,train/rho,train/loss,train/loss_cls,train/loss_dist,train/lr,{}
0,6,0.1,2.4,2.0,2.8,0.1,20,10,
1,13,0.1,1.4,1.0,1.8,0.1,40,50,
2,20,0.1,0.4,0.5,0.3,0.01,,,
3,20,,,,,,,,73.8
""".format("val/cls/all,val/dist/all,test/cls/all")
_PER_CLASS = """class,group,train_images,teacher,CLS,DIST,AVG,plain ViT
a,head,1200,99,100,90,98,100
b,head,60,99,98,98,98,99
c,mid,30,90,80,90,85,81
d,mid,12,95,80,90,90,81
e,tail,1,90,27.2,69.3,,27.6
"""


def _student_analysis(epoch=4, shift=0.0):
    """What `deitlt analyze` finds inside a student of four blocks and two heads."""
    by_group = {"all": 10.0 + shift + epoch, "head": 5.0, "tail": 30.0}
    return {
        "kind": "student",
        "epoch": epoch,
        "attention_distance": {
            "unit": "pixels",
            "cls": [[4.0 + shift, 6.0 + shift]] * 4,
            "dist": [[2.0 + shift, 3.0 + shift]] * 4,
            "patches": [[3.0 + shift, 4.0 + shift]] * 4,
        },
        "rank": {"width": 64, "dist": {"components": [9, 10, 11, 12], "effective": [4.0, 5.0, 6.0, 7.5]}},
        "diversity": {"cosine_distance": {"all": 0.5}, "disagreement": by_group, "per_block": [0.1, 0.2, 0.4, 0.8]},
        "winners": {"cls": 1, "dist": 3, "tie": 1, "classes": []},
        "calibration": {"cls": {"all": 8.0, "tail": 40.0}, "dist": {"all": 4.0}},
        "agreement": {"clean": {"all": 97.0}, "mixed": {"all": 60.0, "tail": 20.0}},
    }


@pytest.fixture
def student_analysis():
    """Makes what an analysis finds inside a student, at an epoch, its numbers shifted."""
    return _student_analysis


@pytest.fixture
def make_run(tmp_path, metrics):
    """Writes a run's folder, reads it back. sam, transforms: of its teacher; analyses: stage -> analysis."""

    def make(name="run", sam=True, transforms=_WEAK, analyses=None, history=(), **changes):
        folder = tmp_path / name
        teacher = {**_STAGE, "sam": {"enabled": sam}, "transforms": transforms}
        stages = {"teacher": teacher, "student": _DISTILLED, "baseline": _STAGE}
        for stage, recipe in stages.items():
            (folder / stage / "analysis").mkdir(parents=True)
            (folder / stage / "stage.yaml").write_text(json.dumps({"recipe": recipe, "trainer": _TRAINER}))
            (folder / stage / "metrics.csv").write_text(_CURVES)
        for stage, analysis in (analyses or {}).items():
            (folder / stage / "analysis.json").write_text(json.dumps(analysis))
        for analysis in history:
            file = folder / "student" / "analysis" / f"epoch_{analysis['epoch']:04d}.json"
            file.write_text(json.dumps(analysis))
        (folder / "config.yaml").write_text(json.dumps({"recipe": {"overrides": ["experiment=digits", "seed=0"]}}))
        (folder / "per_class.csv").write_text(_PER_CLASS)
        (folder / "metrics.json").write_text(json.dumps({**copy.deepcopy(metrics), **changes}))
        (run,) = read_runs([folder])
        return replace(run, name=run.experiment)

    return make


@pytest.fixture
def pixels():
    """What a figure looks like as a file, [H, W, 3]."""

    def render(figure):
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=50)
        return np.asarray(Image.open(file).convert("RGB"))

    return render


@pytest.fixture
def long_tail():
    """Counts, names and groups of a long tail of so many classes, in no order of frequency."""

    def make(classes, largest=1000, factor=0.01):
        sizes = [max(1, int(largest * factor ** (c / (classes - 1)))) for c in range(classes)]
        ids = np.random.default_rng(0).permutation(classes)
        counts = [0] * classes
        for i, size in zip(ids, sizes, strict=True):
            counts[i] = size
        third = classes // 3
        parts = (ids[:third], ids[third : 2 * third], ids[2 * third :])
        groups = {g: [int(i) for i in part] for g, part in zip(("head", "mid", "tail"), parts, strict=True)}
        return counts, [f"class {i}" for i in range(classes)], groups

    return make
