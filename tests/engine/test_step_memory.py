import gc
from dataclasses import replace

import pytest
import torch
from torch import nn

from deitlt.engine.batch_search import Line
from deitlt.engine.building import build_data, build_module
from deitlt.engine.live_tensors import LiveTensors
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.step_memory import StepMemory


def test_storages_are_counted_once_and_until_they_are_freed():
    with LiveTensors() as live:
        whole = torch.zeros(1000)
        part = whole[10:]
        assert live.bytes == 4000
        other = whole + 1
        assert live.bytes == 8000
        del whole, other
        assert live.bytes == 4000  # the part keeps the whole
        del part
    assert (live.bytes, live.peak) == (0, 8000)


def test_what_autograd_keeps_is_counted_until_the_backward_pass():
    weights = torch.ones(100, requires_grad=True)
    with LiveTensors() as live:
        loss = (weights.exp() ** 2).sum()  # the exponential is kept, its square is not
        assert live.bytes == 400 + 4
        assert live.peak == 2 * 400 + 4
        loss.backward()
        del loss
    assert live.bytes == 400  # the gradient


def test_a_network_and_its_optimiser():
    with LiveTensors() as live:
        network = nn.Linear(10, 5)
        optimizer = torch.optim.SGD(network.parameters(), momentum=0.9)
        network(torch.ones(1, 10)).sum().backward()
        optimizer.step()
        gc.collect()
        assert live.bytes == 3 * 55 * 4  # weights, gradients, momentum


@pytest.fixture(scope="module")
def stage(trained):
    """Makes a stage of the trained run, large enough for its activations to matter, with changes."""

    def make(name, trainer=(), **recipe):
        known = StageConfig.load(trained / name / "stage.yaml")
        model = {**known.recipe["model"], **({"width": 64, "depth": 4} if name == "student" else {})}
        changed = {**known.recipe, "model": model, **recipe}
        return replace(known, recipe=changed, trainer={**known.trainer, **dict(trainer)})

    return make


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_memory_grows_by_the_same_for_each_image(name, stage):
    measure = StepMemory(stage(name))
    line = Line.through((8, measure(8)), (16, measure(16)))
    assert line.at(32) == pytest.approx(measure(32), rel=0.01)
    assert line.per_image > 0


def test_what_a_step_holds_beside_activations_counts(stage):
    def measure(trainer=(), **recipe):
        return StepMemory(stage("student", trainer, **{"ema": None, **recipe}))(8)

    student, plain = stage("student"), measure()
    network = build_module(student, build_data(student).info).network
    trained = sum(parameter.nbytes for parameter in network.parameters())
    assert measure(ema=student.recipe["ema"]) - plain == pytest.approx(trained, rel=0.05)
    assert measure({"devices": 2}) - plain == trained
    assert measure(sam=stage("teacher").recipe["sam"]) > plain  # by less than its copies: old gradients are gone


def test_further_views_of_an_image_take_their_share(stage):
    views = stage("student").recipe["transforms"]
    crops = {"_target_": "deitlt.transforms.multi_crop_transform", "local_crops": 2, "local_size": 8}
    several = StepMemory(stage("student", views={**views, "train": {**views["train"], **crops}}))
    alone = StepMemory(stage("student"))
    of_several, of_one = (Line.through((8, step(8)), (16, step(16))).per_image for step in (several, alone))
    tokens = (2 * (16 + 2) + 2 * (4 + 2)) / (16 + 2)
    assert of_several / of_one == pytest.approx(tokens, rel=0.1)
