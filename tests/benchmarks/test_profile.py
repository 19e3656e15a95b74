import json

import pytest
from PIL import Image

from deitlt.cli import main

SHORT = ("profile.batches=2", "profile.warmup=1", "profile.picture=step.png", "output=found.json")


def profile_of(tiny, *words):
    assert main(["benchmark", "part=profile", *tiny, *SHORT, *words]) == 0
    with open("found.json") as file:
        return json.load(file)


def test_a_students_step_is_taken_apart(tiny, tmp_path, capfd):
    found = profile_of(tiny)
    parts = {cost["part"]: cost["share"] for cost in found["costs"]}
    named = {"attention", "MLP", "layer norms", "patch embedding", "classifiers", "loss", "mixing", "optimizer"}
    assert named | {"teacher's forward", "moving average", "waiting for data"} <= set(parts)
    assert min(parts[name] for name in named) > 0
    assert sum(parts.values()) == pytest.approx(1, abs=0.05)
    assert found["batch"] == 16
    picture = Image.open(tmp_path / "step.png")
    assert picture.width > 900
    printed = capfd.readouterr()
    assert "all others" in printed.out
    assert "Traceback" not in printed.err


def test_views_on_the_device_are_a_part_of_their_own(tiny):
    found = profile_of(tiny, "student/views=device_small", "student.views.train.padding=2")
    assert {cost["part"]: cost["share"] for cost in found["costs"]}["views"] > 0.01


def test_a_teachers_step_has_convolutions(tiny):
    found = profile_of(tiny, "profile.stage=sam_teacher")
    parts = {cost["part"]: cost["share"] for cost in found["costs"]}
    assert parts["convolutions"] > parts["classifiers"] > 0
    assert parts["batch norms"] > 0
    assert "attention" not in parts
