import os

import pytest
import torch

from deitlt.engine.devices import count_devices
from deitlt.errors import ConfigError


@pytest.fixture
def gpus(monkeypatch):
    def have(number):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)

    return have


def test_auto_takes_a_gpu_where_there_is_one(gpus):
    gpus(0)
    assert count_devices("auto", 1) == ("cpu", 1)
    gpus(4)
    assert count_devices("auto", 2) == ("gpu", 2)


def test_auto_devices_are_every_gpu_or_one_process(gpus):
    gpus(4)
    assert count_devices("auto", "auto") == ("gpu", 4)
    assert count_devices("cpu", "auto") == ("cpu", 1)


def test_more_devices_than_there_are_is_refused(gpus):
    gpus(2)
    with pytest.raises(ConfigError, match=r"trainer\.devices=3 .* 2 GPUs; type trainer\.devices=2 or fewer"):
        count_devices("gpu", 3)
    too_many = (os.cpu_count() or 1) + 1
    with pytest.raises(ConfigError, match=f"devices={too_many} .* CPU cores"):
        count_devices("cpu", too_many)


@pytest.mark.parametrize(
    ("there_are", "devices", "advice"),
    [(1, 0, "1"), (1, 2, "1"), (2, 0, "1, or up to 2"), (2, "two", "1, or up to 2"), (2, 3, "2 or fewer")],
)
def test_the_advice_is_a_number_that_can_be_had(there_are, devices, advice, gpus):
    gpus(there_are)
    with pytest.raises(ConfigError) as refused:
        count_devices("gpu", devices)
    assert str(refused.value).endswith(f"; type trainer.devices={advice}.")


@pytest.mark.parametrize("devices", [0, -1, "two", 1.5])
def test_what_is_no_number_of_devices_is_refused(devices):
    with pytest.raises(ConfigError, match=f"devices={devices}"):
        count_devices("cpu", devices)


def test_a_gpu_that_is_not_there_is_refused(gpus):
    gpus(0)
    with pytest.raises(ConfigError, match=r"there is no GPU; type trainer\.accelerator=cpu"):
        count_devices("gpu", 1)


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_the_accelerator_has_the_verbs_name(accelerator, gpus):
    gpus(0)
    with pytest.raises(ConfigError) as refused:
        count_devices(accelerator, 1, "accelerator")
    assert str(refused.value).startswith(f"accelerator={accelerator}")
    assert "trainer" not in str(refused.value)


def test_an_unknown_accelerator_is_refused():
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=tpu"):
        count_devices("tpu", 1)
