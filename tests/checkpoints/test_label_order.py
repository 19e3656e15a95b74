from pathlib import Path

import pytest
import torch

from deitlt.checkpoints import StoredNetwork, as_index, foreign_order, order_by_name
from deitlt.errors import CheckpointError, ConfigError
from deitlt.types import DataInfo

LABELS = (2, 0, 1)  # of the classes 0, 1, 2
AUTHORS = (2, 1, 0)  # in the authors' order, where the classes with the labels 0 and 1 are a tie that falls otherwise


def data(labels=LABELS, authors=AUTHORS):
    return DataInfo(3, (5, 2, 2), ("ant", "bee", "cat"), {"head": (0, 1, 2)}, labels, authors)


def stored(layout):
    return StoredNetwork(Path("theirs.pth"), "create_teacher", 3, {}, {}, None, layout)


def test_names_tell_where_each_wanted_class_stands():
    assert order_by_name(["ant", "bee", "cat"], ["cat", "ant", "bee"]) == [2, 0, 1]
    assert order_by_name(["ant", "bee"], ["ant", "bee"]) == [0, 1]


@pytest.mark.parametrize("wanted", [["ant", "bee"], ["ant", "bee", "dog"], ["ant", "ant", "bee"]])
def test_other_classes_have_no_order(wanted):
    assert order_by_name(["ant", "bee", "cat"], wanted) is None


def test_names_that_two_classes_share_must_be_equal_in_order():
    assert order_by_name(["ant", "ant", "bee"], ["ant", "ant", "bee"]) == [0, 1, 2]
    assert order_by_name(["ant", "ant", "bee"], ["ant", "bee", "ant"]) is None


@pytest.mark.parametrize(
    ("layout", "choice", "expected"),
    [
        ("paco", "auto", [2, 0, 1]),
        ("paco", "sorted", [0, 1, 2]),
        ("resnet", "auto", [0, 2, 1]),
        ("resnet", "sorted", [0, 1, 2]),
        ("resnet", "original", [2, 0, 1]),
        ("vit", "auto", [0, 2, 1]),
        ("vit", "authors", [0, 2, 1]),
        ("vit", "original", [2, 0, 1]),
    ],
)
def test_custom_of_the_published_files_and_the_users_word(layout, choice, expected):
    assert foreign_order(stored(layout), data(), choice, "label_order") == expected


def test_the_order_picks_columns():
    original = torch.tensor([[10.0, 11.0, 12.0]])  # answers to the data set's labels 0, 1, 2
    assert original[:, as_index([2, 0, 1])].tolist() == [[12.0, 10.0, 11.0]]  # to the classes of LABELS
    assert as_index([0, 1, 2]) is None


def test_labels_that_are_no_order_are_told():
    with pytest.raises(CheckpointError, match=r"go from 3 to 9 for 3 classes; type teacher\.label_order=sorted"):
        foreign_order(stored("paco"), data((3, 9, 4), ()), "auto", "teacher.label_order")
    assert foreign_order(stored("resnet"), data((3, 9, 4), ()), "auto", "label_order") == [0, 1, 2]


def test_another_word_is_no_choice():
    with pytest.raises(ConfigError, match="label_order=sortd is no choice; did you mean 'sorted'"):
        foreign_order(stored("vit"), data(), "sortd", "label_order")


def test_where_classes_keep_their_order_there_is_one_order_alone():
    for layout in ("paco", "resnet", "vit"):
        assert foreign_order(stored(layout), data((0, 1, 2), ()), "auto", "label_order") == [0, 1, 2]
