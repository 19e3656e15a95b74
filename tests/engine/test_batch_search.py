import pytest
import torch

from deitlt.engine.batch_search import FoundBatch, Line, candidates, search

GIB = 2**30


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_every_candidate_keeps_the_images_of_an_update(devices):
    sizes = candidates(1024, devices, most=10_000)
    assert sizes == [2**k for k in range(10, -1, -1) if 2**k <= 1024 // devices]
    assert all(1024 // devices % size == 0 for size in sizes)


def test_candidates_of_numbers_with_other_divisors():
    assert candidates(60, 1, most=60) == [60, 30, 20, 15, 12, 10, 6, 5, 4, 3, 2, 1]
    assert candidates(7, 1, most=60) == [7, 1]


def test_a_batch_is_no_larger_than_what_a_device_sees_of_an_epoch():
    assert candidates(1024, 1, most=78)[0] == 64


def test_a_line_goes_through_both_points():
    line = Line.through((2, 700), (4, 900))
    assert (line.fixed, line.per_image) == (500, 100)
    assert line.at(10) == 1500


class Step:
    """A step that takes memory by a formula, and more than there is raises; remembers what was run."""

    def __init__(self, taken, there_is=float("inf")):
        self.taken, self.there_is, self.run = taken, there_is, []

    def __call__(self, images):
        self.run.append(images)
        if self.taken(images) > self.there_is:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.taken(images)


SIZES = candidates(512, 1, most=10_000)


@pytest.mark.parametrize("is_run", [True, False])
def test_the_largest_size_within_the_margin_is_found(is_run):
    step = Step(lambda images: 1000 + 50 * images)
    found = search(SIZES, step, free=8500, margin=0.1, is_run=is_run)
    assert found == FoundBatch(128, 1000 + 50 * 128, 8500)
    assert step.run == [2, 4, 8, 16, 32, *([128] if is_run else [])]
    assert search(SIZES, step, free=8000, margin=0.1, is_run=is_run).images == 64  # 128 take 7,400, 7,200 may be taken


def test_a_size_that_fails_when_it_is_run_makes_room_for_the_next():
    step = Step(lambda images: 50 * images if images < 100 else 90 * images, there_is=9000)
    found = search(SIZES, step, free=9000, margin=0.1, is_run=True)
    assert step.run[-2:] == [128, 64]
    assert found == FoundBatch(64, 3200, 9000)


def test_a_size_that_takes_more_than_it_may_when_it_is_run_is_not_taken():
    step = Step(lambda images: 50 * images if images < 100 else 68 * images, there_is=9000)
    assert search(SIZES, step, free=9000, margin=0.1, is_run=True).images == 64


def test_the_batch_is_doubled_until_memory_grows_with_it():
    step = Step(lambda images: max(5000 + images * 60, 1000 + 200 * images))
    assert search(SIZES, step, free=30_000, margin=0.0, is_run=False) == FoundBatch(128, 26_600, 30_000)
    assert step.run[-1] > 32  # beyond the knee at 29


def test_memory_that_ends_while_the_line_is_sought_ends_the_search_for_it():
    step = Step(lambda images: 1000 * images, there_is=5000)
    assert search(SIZES, step, free=5000, margin=0.1, is_run=True).images == 4


def test_where_only_one_image_fits_it_is_taken():
    step = Step(lambda images: 1000 * images, there_is=1900)
    assert search(SIZES, step, free=1900, margin=0.1, is_run=True) == FoundBatch(1, 1000, 1900)
    assert search([1], Step(lambda images: 1000), free=1900, margin=0.1, is_run=False).images == 1


def test_where_not_even_one_fits_nothing_is_found():
    assert search(SIZES, Step(lambda images: 1000 * images, there_is=500), 500, 0.1, is_run=True) is None
    assert search(SIZES, Step(lambda images: 1000 * images), 500, 0.1, is_run=False) is None


def test_in_words():
    said = str(FoundBatch(128, 21 * GIB, 80 * GIB))
    assert said == (
        "128 images for each device at once were found to fit: a step's tensors take 21 GiB of the 80 GiB that are free"
    )
