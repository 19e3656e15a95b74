import json

import numpy as np
import pytest
import torch

from deitlt.benchmarks.noise import noise_images
from deitlt.benchmarks.views import ViewEpoch, views_rows
from deitlt.cli import main
from deitlt.transforms import IMAGENET, student_view

SMALL = ("views.sizes=[[8,8],[8,16]]", "views.batch=4", "views.batches=2", "workers=1", "repeats=2")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    output = folder / "views.json"
    assert main(["benchmark", "part=views", *SMALL, "views.compared=[paper,device]", f"output={output}"]) == 0
    return json.loads(output.read_text())


def test_each_view_and_size_has_its_images_a_second(found):
    assert [(sizes["source_pixels"], sizes["pixels"]) for sizes in found["sizes"]] == [(8, 8), (8, 16)]
    for sizes in found["sizes"]:
        paper, device = sizes["views"]
        assert (paper["view"], paper["made"], paper["times_the_first"]) == ("paper", "in workers", 1.0)
        assert (device["view"], device["made"]) == ("device", "on the device")
        assert min(paper["images_per_second"], device["images_per_second"], device["times_the_first"]) > 0


def test_the_table_has_a_row_for_each(found):
    rows = dict(views_rows(found))
    assert set(rows) == {
        f"8 -> {size} px, {view}" for size in (8, 16) for view in ("paper in 1 workers", "device on the device")
    }


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_makes_a_view_of_each_image(workers):
    epoch = ViewEpoch(noise_images(10, 8), student_view(8, IMAGENET), 4, workers, torch.device("cpu"))
    epoch()
    assert epoch.images == 10
    epoch()
    assert epoch.images == 20


def test_noise_is_the_same_at_each_call_and_every_class_is_there():
    first, second = noise_images(30, 4), noise_images(30, 4)
    assert np.array_equal(first.pixels, second.pixels)
    assert first.pixels.std() > 50
    assert np.bincount(first.labels).tolist() == [3] * 10


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("views.compared=[papr]", "student/views=papr is no choice; did you mean 'paper'?"),
        ("views.compared=[]", "views.compared=[] names no view; type views.compared=[paper,device], say."),
        ("views.sizes=[32]", "views.sizes=[32] must be pairs of pixels"),
        ("views.sizes=[[32,0]]", "must be pairs of pixels, of an image and of its view"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(complain, word, sentence):
    assert sentence in complain("benchmark", "part=views", word, output=None)
