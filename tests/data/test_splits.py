import numpy as np
import pytest

from deitlt.data.datasets import DataSplits
from deitlt.data.images import ArrayImages
from deitlt.data.splits import SplitOptions, long_tailed
from deitlt.errors import ConfigError, DataError


def fake(labels, classes=None):
    """A data set whose image i is one pixel; the test set has one image a class."""
    classes = classes or int(max(labels)) + 1

    def images(ids):
        return ArrayImages(np.zeros((len(ids), 1, 1, 3), np.uint8), ids)

    return DataSplits(images(labels), images(range(classes)), tuple(f"c{i}" for i in range(classes)))


def sized(*counts):
    return fake(np.repeat(np.arange(len(counts)), counts), len(counts))


def counts_of(source, classes):
    return np.bincount(source.labels, minlength=classes).tolist()


def test_published_split_of_cifar10_index_for_index(golden):
    labels = np.random.RandomState(12345).permutation(np.repeat(np.arange(10), 5000))
    result = long_tailed(fake(labels), SplitOptions(imbalance_factor=0.01), (3, 7))
    reference = golden("longtail_split")
    assert result.info.counts == tuple(reference["c10_exp_0.01_counts"])
    assert np.array_equal(result.train.indices, reference["c10_exp_0.01_indices"])
    assert result.val is None
    assert result.info.groups == {"head": (0, 1, 2), "mid": (3, 4, 5, 6), "tail": (7, 8, 9)}


def test_step_profile():
    result = long_tailed(sized(*[100] * 5), SplitOptions(imbalance_factor=0.1, imbalance_kind="step"), None)
    assert result.info.counts == (100, 100, 10, 10, 10)


def test_without_a_factor_the_data_stay_as_they_are():
    splits = sized(3, 9, 5)
    result = long_tailed(splits, SplitOptions(), None)
    assert result.train is splits.train
    assert result.test is splits.test
    assert result.info.counts == (3, 9, 5)
    assert result.info.num_classes == 3
    assert result.info.class_names == ("c0", "c1", "c2")


def test_class_with_fewer_images_than_asked_keeps_all():
    result = long_tailed(sized(40, 7, 40), SplitOptions(imbalance_factor=0.1), None)
    assert result.info.counts == (40, 7, 4)
    assert counts_of(result.train, 3) == [40, 7, 4]


def test_max_count_is_the_largest_class_and_alone_caps_all():
    assert long_tailed(sized(50, 50), SplitOptions(0.1, max_count=20), None).info.counts == (20, 2)
    assert long_tailed(sized(50, 3), SplitOptions(max_count=20), None).info.counts == (20, 3)


def test_other_seed_selects_other_images_of_equal_number():
    first, second = (long_tailed(sized(50, 50), SplitOptions(0.1, split_seed=seed), None) for seed in (0, 1))
    assert first.info.counts == second.info.counts
    assert not np.array_equal(first.train.indices, second.train.indices)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
def test_validation_split_of_small_classes(fraction):
    result = long_tailed(sized(1, 2, 3, 100), SplitOptions(val_fraction=fraction), None)
    val, train = counts_of(result.val, 4), counts_of(result.train, 4)
    assert val[:2] == [0, 1]
    assert val[2] == {0.99: 2, 0.5: 2}.get(fraction, 1)
    assert val[3] == round(100 * fraction)
    assert [a + b for a, b in zip(val, train, strict=True)] == [1, 2, 3, 100]
    assert result.info.counts == tuple(train)


def test_validation_split_is_cut_from_the_long_tailed_images():
    splits = sized(100, 100, 100)
    whole = long_tailed(splits, SplitOptions(0.1), None)
    cut = long_tailed(splits, SplitOptions(0.1, val_fraction=0.2), None)
    assert sorted([*cut.train.indices, *cut.val.indices]) == sorted(whole.train.indices)
    assert cut.info.counts == (80, 25, 8)


def test_validation_split_depends_on_the_seed_alone():
    def indices(seed):
        return long_tailed(sized(50, 20), SplitOptions(val_fraction=0.2, split_seed=seed), None).val.indices.tolist()

    np.random.seed(1)
    first = indices(3)
    np.random.seed(2)
    assert indices(3) == first
    assert indices(4) != first


def test_groups_by_shots_and_own_cuts():
    counts = sized(200, 150, 50, 10)
    shots = long_tailed(counts, SplitOptions(groups="shots"), (1, 2)).info.groups
    assert shots == {"head": (0, 1), "mid": (2,), "tail": (3,)}
    own = long_tailed(counts, SplitOptions(group_cuts=(1, 3)), (2, 3)).info.groups
    assert own == {"head": (0,), "mid": (1, 2), "tail": (3,)}
    default = long_tailed(counts, SplitOptions(), (2, 3)).info.groups
    assert default == {"head": (0, 1), "mid": (2,), "tail": (3,)}


def test_group_without_a_class_is_absent():
    groups = long_tailed(sized(200, 150), SplitOptions(groups="shots"), None).info.groups
    assert groups == {"head": (0, 1)}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"val_fraction": 1.0}, r"data\.val_fraction=1\.0 .*type data\.val_fraction=0\.1"),
        ({"val_fraction": -0.1}, r"data\.val_fraction=-0\.1"),
        ({"val_fraction": float("nan")}, r"data\.val_fraction=nan"),
        ({"max_count": 0}, r"data\.max_count=0 must be 1 or more"),
        ({"split_seed": -1}, r"data\.split_seed=-1 must be"),
    ],
)
def test_options_out_of_range(option, message):
    with pytest.raises(ConfigError, match=message):
        SplitOptions(**option)


def test_factor_out_of_range():
    with pytest.raises(ConfigError, match=r"data\.imbalance_factor=100"):
        long_tailed(sized(9, 9), SplitOptions(imbalance_factor=100), None)
    with pytest.raises(ConfigError, match=r"leaves class 1 with 0 of 9 images"):
        long_tailed(sized(9, 9), SplitOptions(imbalance_factor=0.01), None)


def test_class_without_an_image_and_a_single_class():
    with pytest.raises(DataError, match="class 'c1' has no training image"):
        long_tailed(sized(5, 0, 5), SplitOptions(), None)
    with pytest.raises(DataError, match="1 class, but"):
        long_tailed(sized(5), SplitOptions(), None)
