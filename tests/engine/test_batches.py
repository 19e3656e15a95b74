import pytest

from deitlt.engine.devices import plan_batches
from deitlt.errors import ConfigError


@pytest.mark.parametrize(
    ("devices", "batch_size", "accumulate"), [(1, 128, 8), (2, 128, 4), (4, 128, 2), (8, 128, 1), (1, 1024, 1)]
)
def test_an_update_has_the_recipes_images_on_any_number_of_devices(devices, batch_size, accumulate):
    plan = plan_batches(1024, devices, batch_size)
    assert (plan.batch_size, plan.accumulate) == (batch_size, accumulate)
    assert plan.images_per_update == 1024


def test_a_devices_batch_shrinks_where_an_update_has_fewer_images():
    plan = plan_batches(64, 2, 64)
    assert (plan.batch_size, plan.accumulate, plan.images_per_update) == (32, 1, 64)


def test_what_cannot_be_shared_evenly_is_nearest_and_says_so():
    plan = plan_batches(1000, 1, 128)
    assert plan.images_per_update == 1024
    assert str(plan) == "1 device x 128 images x 8 micro-batches = 1024 images an update"


def test_one_device_and_one_batch_in_words():
    assert str(plan_batches(64, 1, 64)) == "1 device x 64 images = 64 images an update"
    assert str(plan_batches(64, 2, 32)) == "2 devices x 32 images = 64 images an update"


@pytest.mark.parametrize(("images", "devices", "batch"), [(0, 1, 8), (8, 1, 0), (2, 4, 8)])
def test_batches_that_cannot_be_are_refused(images, devices, batch):
    with pytest.raises(ConfigError, match=f"={images if batch else batch}"):
        plan_batches(images, devices, batch)
