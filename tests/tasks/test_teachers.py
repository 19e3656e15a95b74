"""A given teacher that was trained on images which the run holds out."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from deitlt.checkpoints import find_checkpoint, read_card
from deitlt.errors import CheckpointError
from deitlt.tasks.teachers import CheckedTeacher, check_unseen

DATA = {"name": "digits", "root": "data", "split_seed": 0, "imbalance_factor": 0.1, "imbalance_kind": "exp"}
DATA |= {"max_count": 20, "val_fraction": 0.2}


@pytest.fixture
def told(trained):
    """Tells a teacher of some training data; answers with what `check_unseen` says of it."""
    card = read_card(find_checkpoint(str(trained), ("teacher",)))

    def tell(known, data):
        return check_unseen(CheckedTeacher(SimpleNamespace(path="r1"), replace(card, data=known), None), data)

    return tell


def test_a_teacher_that_has_seen_the_held_out_images_is_refused_before_anything_is_written(complain, tiny, teacher):
    sentence = complain("train", *tiny, teacher, "data.val_fraction=0.2")
    assert "was trained with data.val_fraction=0.0, so that with data.val_fraction=0.2 it has seen images" in sentence
    assert sentence.endswith("type teacher.checkpoint=null to train one, or data.val_fraction=0.0.")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"val_fraction": 0.1}, "data.val_fraction=0.1"),
        ({"split_seed": 1}, "data.split_seed=1"),
        ({"imbalance_factor": None}, "data.imbalance_factor=null"),
        ({"max_count": 30}, "data.max_count=30"),
    ],
)
def test_other_images_were_held_out_from_the_teacher(told, change, named):
    with pytest.raises(CheckpointError, match="images that this run holds out; type teacher") as error:
        told(DATA | change, DATA)
    assert f"was trained with {named}, " in str(error.value)
    assert str(error.value).endswith(f"or {named}.")


def test_a_teacher_that_has_not_seen_them_passes(told):
    assert told(DATA, DATA) is None
    assert told(DATA | {"val_fraction": 0.3, "root": "moved"}, DATA) is None
    assert told(DATA | {"val_fraction": 0.0}, DATA | {"val_fraction": 0.0}) is None


def test_a_line_says_so_where_nobody_knows_what_the_teacher_has_seen(told):
    folder = DATA | {"name": "folder"}
    for known, data in (({}, DATA), (DATA | {"name": "other"}, DATA), (folder | {"root": "elsewhere"}, folder)):
        assert told(known, data) == "teacher: r1 does not say whether it was trained on images that are held out here"
    assert told({}, DATA | {"val_fraction": 0.0}) is None


def test_what_is_held_out_with_a_share_is_held_out_with_a_larger_one():
    from deitlt.data import LongTailDataModule

    options = {key: value for key, value in DATA.items() if key != "val_fraction"}
    smaller, larger = (LongTailDataModule(**options, val_fraction=share) for share in (0.2, 0.3))
    kept = [set(map(int, module.splits.train.indices)) for module in (smaller, larger)]
    assert kept[1] < kept[0]
