import numpy as np
import pytest

from deitlt.data.datamodule import LongTailDataModule
from deitlt.data.datasets import DataSplits
from deitlt.data.images import ArrayImages
from deitlt.data.splits import SplitOptions, authors_order, long_tailed, sort_classes
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


@pytest.mark.parametrize(
    ("sizes", "options", "counts"),
    [
        ([100] * 5, {"imbalance_factor": 0.1, "imbalance_kind": "step"}, (100, 100, 10, 10, 10)),
        ([40, 7, 40], {"imbalance_factor": 0.1}, (40, 7, 4)),  # a class with fewer images than asked keeps all
        ([50, 50], {"imbalance_factor": 0.1, "max_count": 20}, (20, 2)),
        ([50, 3], {"max_count": 20}, (20, 3)),
    ],
)
def test_counts_follow_the_profile_and_the_seed_selects_the_images(sizes, options, counts):
    first, second = (long_tailed(sized(*sizes), SplitOptions(**options, split_seed=seed), None) for seed in (0, 1))
    assert first.info.counts == second.info.counts == counts
    assert tuple(counts_of(first.train, len(sizes))) == counts
    assert not np.array_equal(first.train.indices, second.train.indices)


def test_without_a_factor_the_data_stay_as_they_are():
    splits = sized(3, 9, 5)
    result = long_tailed(splits, SplitOptions(), None)
    assert result.train is splits.train
    assert result.test is splits.test
    assert result.info.counts == (3, 9, 5)
    assert result.info.num_classes == 3
    assert result.info.class_names == ("c0", "c1", "c2")


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
    few = long_tailed(sized(200, 150), SplitOptions(groups="shots"), None).info.groups
    assert few == {"head": (0, 1)}  # a group without a class is absent


def test_data_that_cannot_be_split_are_named():
    with pytest.raises(ConfigError, match=r"data\.imbalance_factor=100"):
        long_tailed(sized(9, 9), SplitOptions(imbalance_factor=100), None)
    with pytest.raises(ConfigError, match=r"leaves class 1 with 0 of 9 images"):
        long_tailed(sized(9, 9), SplitOptions(imbalance_factor=0.01), None)
    with pytest.raises(DataError, match="class 'c1' has no training image"):
        long_tailed(sized(5, 0, 5), SplitOptions(), None)
    with pytest.raises(DataError, match="1 class, but"):
        long_tailed(sized(5), SplitOptions(), None)


COUNTS = (2, 9, 4, 9, 4, 1)
SORTED = (1, 3, 2, 4, 0, 5)


def numbered(labels):
    """Images whose one pixel tells their own label and number."""
    pixels = np.stack([labels, np.arange(len(labels)), labels], axis=-1).astype(np.uint8)
    return ArrayImages(pixels[:, None, None, :], labels)


@pytest.fixture
def splits():
    train = np.random.RandomState(0).permutation(np.repeat(np.arange(6), COUNTS))
    return DataSplits(numbered(train), numbered(np.repeat(np.arange(6), 2)), tuple("abcdef"))


def own_label(source, index):
    return source[index].getpixel((0, 0))[0]


def test_classes_are_sorted_by_falling_count_and_stable_among_ties(splits):
    result = long_tailed(sort_classes(splits, "count"), SplitOptions(), (2, 4))
    assert result.info.counts == (9, 9, 4, 4, 2, 1)
    assert result.info.labels == SORTED
    assert result.info.class_names == tuple("bdceaf")
    assert result.info.groups == {"head": (0, 1), "mid": (2, 3), "tail": (4, 5)}


@pytest.mark.parametrize("order", ["count", "authors"])
def test_every_image_of_every_split_keeps_its_own_class(splits, order):
    options = SplitOptions(imbalance_factor=0.3, max_count=8, val_fraction=0.3)
    result = long_tailed(sort_classes(splits, order), options, None)
    seen = []
    for source in (result.train, result.val, result.test):
        assert len(source) == len(source.labels) > 0
        for i, label in enumerate(source.labels):
            assert own_label(source, i) == result.info.labels[label]
        seen += [source[i].getpixel((0, 0))[1] for i in range(len(source)) if source is not result.test]
    assert len(seen) == len(set(seen))
    assert np.bincount(result.train.labels).tolist() == list(result.info.counts)
    assert np.bincount(result.test.labels).tolist() == [2] * 6


def test_classes_keep_their_order_or_have_that_of_a_file(splits, tmp_path):
    assert sort_classes(splits, "label") is splits
    assert long_tailed(splits, SplitOptions(), None).info.labels == (0, 1, 2, 3, 4, 5)
    (tmp_path / "order.txt").write_text("5\n4\n3 2\n1\n0\n")
    assert sort_classes(splits, str(tmp_path / "order.txt")).labels == (5, 4, 3, 2, 1, 0)


@pytest.mark.parametrize("content", ["0 1 2 3 4", "0 1 2 3 4 4", "0 1 2 3 4 6", "a b c d e f", "", "0 1 2 3 4 -5"])
def test_an_order_that_lacks_a_label_is_refused(splits, tmp_path, content):
    (tmp_path / "order.txt").write_text(content)
    with pytest.raises(DataError, match=r"order\.txt must hold each label 0 to 5 once"):
        sort_classes(splits, str(tmp_path / "order.txt"))


def test_an_order_that_is_none_is_named(splits):
    with pytest.raises(ConfigError, match=r"data\.class_order=counts is none of label, count, authors, nor a file"):
        sort_classes(splits, "counts")


def test_a_name_that_became_absolute_is_told_as_it_was_typed(splits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^data\.class_order=orders/sizes is none"):
        sort_classes(splits, str(tmp_path / "orders" / "sizes"))
    with pytest.raises(ConfigError, match=r"^data\.class_order=/nowhere/sizes is none"):
        sort_classes(splits, "/nowhere/sizes")


def test_the_module_sorts_any_data_set_where_that_is_asked_for():
    options = {"max_count": 30, "imbalance_factor": 0.25}
    plain = LongTailDataModule.from_keys(**options)
    labels = np.bincount(plain._read().train.labels)
    info = LongTailDataModule.from_keys(**options, class_order="count").info
    assert plain.info.labels == tuple(range(10))
    assert info.labels == tuple(np.argsort(-labels, kind="stable"))
    assert info.class_names == tuple(str(label) for label in info.labels)


# What NumPy 2.4 gave with its vector instructions off (NPY_DISABLE_CPU_FEATURES), so its plain introsort.
@pytest.mark.parametrize("name", ["imagenet_lt", "inat18"])
def test_the_authors_order_of_the_published_counts(golden, name):
    counts = golden("class_weights")[f"{name.replace('_', '')}_counts_by_original_label"]
    order = authors_order(counts)
    np.testing.assert_array_equal(order, golden("authors_order")[name])
    stable = np.argsort(-counts, kind="stable")
    np.testing.assert_array_equal(counts[order], counts[stable])
    assert (order != stable).sum() > len(counts) / 2  # most classes have ties


def test_the_authors_order_of_short_and_of_unfortunate_keys(golden):
    reference = golden("authors_order")
    keys, orders, start = reference["short_keys"], reference["short_orders"], 0
    for size in range(1, 60):
        found = authors_order(-keys[start : start + size])
        np.testing.assert_array_equal(found, orders[start : start + size])
        start += size
    worst = authors_order(-reference["worst_keys"])  # so unbalanced that heaps sort parts of it
    np.testing.assert_array_equal(worst, reference["worst_order"])
    assert authors_order(np.zeros(0, int)).tolist() == []


@pytest.mark.parametrize(
    ("name", "cuts", "sizes"), [("imagenetlt", (390, 835), (390, 445, 165)), ("inat18", (842, 4543), (842, 3701, 3599))]
)
def test_published_groups_of_classes_sorted_by_count(golden, name, cuts, sizes):
    counts = golden("class_weights")[f"{name}_counts_by_original_label"]
    images = ArrayImages(np.zeros((int(counts.sum()), 1, 1, 3), np.uint8), np.repeat(np.arange(len(counts)), counts))
    splits = DataSplits(images, images, tuple(map(str, range(len(counts)))))
    info = long_tailed(sort_classes(splits, "count"), SplitOptions(), cuts).info
    assert tuple(len(info.groups[group]) for group in ("head", "mid", "tail")) == sizes
    assert [c for group in ("head", "mid", "tail") for c in info.groups[group]] == list(range(len(counts)))
    assert counts[list(info.labels)].tolist() == list(info.counts)
    shots = long_tailed(sort_classes(splits, "count"), SplitOptions(groups="shots"), cuts).info
    assert len(shots.groups["head"]) == (counts > 100).sum()
    assert len(shots.groups["tail"]) == (counts < 20).sum()
