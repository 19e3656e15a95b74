from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import deitlt.data.datasets
import deitlt.data.folder  # noqa: F401
from deitlt.data import datasets as registry
from deitlt.data.datasets import DataRequest, DataSplits, get_dataset, list_datasets, register_dataset
from deitlt.data.images import ArrayImages
from deitlt.errors import ConfigError


def read_nothing(request: DataRequest) -> DataSplits:
    empty = ArrayImages(np.zeros((0, 1, 1, 3), np.uint8), [])
    return DataSplits(empty, empty, ())


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))


def test_built_in_sets_are_listed_sorted():
    assert list_datasets() == ["cifar10", "cifar100", "digits", "folder", "imagenet_lt", "inat18", "lists", "places_lt"]


def test_own_data_set_can_be_registered_twice_the_same():
    spec = replace(get_dataset("folder"), name="mine", read=read_nothing)
    register_dataset(spec)
    register_dataset(spec)
    assert get_dataset("mine").read(DataRequest(Path())).class_names == ()


def test_name_of_another_data_set_is_refused():
    with pytest.raises(ConfigError, match=r"'digits' is registered already"):
        register_dataset(replace(get_dataset("folder"), name="digits"))


def test_unknown_name_says_the_nearest():
    with pytest.raises(ConfigError, match=r"data\.name=cifar11 .*did you mean 'cifar10"):
        get_dataset("cifar11")
    with pytest.raises(ConfigError, match="type one of cifar10, cifar100, digits, folder"):
        get_dataset("zzz")


@pytest.mark.parametrize(
    ("name", "size", "cuts"),
    [("cifar10", 32, (3, 7)), ("cifar100", 32, (36, 71)), ("digits", 8, (3, 7)), ("folder", 224, None)],
)
def test_specs(name, size, cuts):
    spec = get_dataset(name)
    assert (spec.name, spec.image_size, spec.group_cuts) == (name, size, cuts)
    assert len(spec.description) < 90
