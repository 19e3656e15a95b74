import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deitlt.errors import ConfigError, DataError
from deitlt.longtail import by_frequency, class_counts, default_cuts, frequency_groups, subsample

GOLDEN = np.load(Path(__file__).parent / "golden" / "longtail_split.npz")
WEIGHTS = np.load(Path(__file__).parent / "golden" / "class_weights.npz")


def shuffled_labels(classes, images, seed):
    return np.random.RandomState(seed).permutation(np.repeat(np.arange(classes), images))


@pytest.mark.parametrize(
    ("name", "classes", "images", "kind", "seed"),
    [
        ("c10_exp_0.01", 10, 5000, "exp", 12345),
        ("c10_step_0.01", 10, 5000, "step", 12345),
        ("c100_exp_0.01", 100, 500, "exp", 54321),
    ],
)
def test_split_is_the_authors_index_for_index(name, classes, images, kind, seed):
    counts = class_counts(classes, images, 0.01, kind)
    assert counts == GOLDEN[f"{name}_counts"].tolist()
    indices = subsample(shuffled_labels(classes, images, seed), counts)
    np.testing.assert_array_equal(indices, GOLDEN[f"{name}_indices"])


def test_importing_longtail_does_not_load_torch():
    code = "import sys, deitlt.longtail; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_step_with_an_odd_number_of_classes_loses_none():
    assert class_counts(5, 100, 0.1, "step") == [100, 100, 10, 10, 10]


def test_exp_runs_from_largest_to_smallest():
    counts = class_counts(7, 400, 0.02)
    assert len(counts) == 7
    assert counts[0] == 400
    assert counts[-1] == 8
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("kind", ["exp", "step"])
def test_factor_one_is_balanced(kind):
    assert class_counts(4, 37, 1.0, kind) == [37] * 4


def test_one_class_alone_is_the_largest():
    assert class_counts(1, 50, 0.1) == [50]


@pytest.mark.parametrize("factor", [0, -0.1, 1.5, 100, float("nan")])
def test_factor_outside_its_range_names_the_key(factor):
    with pytest.raises(ConfigError, match=r"data\.imbalance_factor=.*type data\.imbalance_factor=0\.01"):
        class_counts(10, 5000, factor)


def test_unknown_kind_gets_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'step'"):
        class_counts(10, 5000, 0.01, "stepp")


def test_a_class_left_empty_names_class_count_and_smallest_factor():
    with pytest.raises(ConfigError, match=r"leaves class 9 with 0 of 500 .* data\.imbalance_factor=0\.002 or"):
        class_counts(10, 500, 0.001)


@pytest.mark.parametrize("images", [1, 2, 3, 7, 49, 98, 103, 107, 161, 500, 1250])
def test_the_smallest_factor_that_the_error_names_works(images):
    with pytest.raises(ConfigError) as caught:
        class_counts(3, images, 1e-6)
    factor = float(str(caught.value).split("=")[-1].split()[0])
    assert class_counts(3, images, factor)[-1] == 1


def test_subsample_keeps_classes_together_and_leaves_labels_alone():
    labels = np.array([2, 0, 1, 0, 2, 1, 0, 2])
    before = labels.copy()
    kept = subsample(labels, [3, 1, 2])
    assert labels[kept].tolist() == [0, 0, 0, 1, 2, 2]
    assert len(set(kept.tolist())) == 6
    np.testing.assert_array_equal(labels, before)


def test_subsample_follows_its_seed():
    labels = shuffled_labels(3, 40, 0)
    same, again, other = (subsample(labels, [30, 20, 10], seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(same, again)
    assert same.tolist() != other.tolist()


def test_subsample_names_the_class_that_is_too_small():
    with pytest.raises(DataError, match="class 1 has 2 images, but 3"):
        subsample([0, 0, 0, 1, 1], [3, 3])


def test_subsample_names_a_class_without_any_image():
    with pytest.raises(DataError, match="class 2 has 0 images"):
        subsample([0, 0, 1], [1, 1, 1])


@pytest.mark.parametrize("labels", [[0, 1, 2], [-1, 0, 1]])
def test_subsample_refuses_labels_without_a_count(labels):
    with pytest.raises(DataError, match="counts of 2 classes"):
        subsample(labels, [1, 1])


def test_ties_stay_in_order_of_id():
    assert by_frequency([5, 9, 5, 9, 5]).tolist() == [1, 3, 0, 2, 4]


def test_paper_groups_sort_classes_by_count():
    groups = frequency_groups([10, 30, 20, 20], cuts=[1, 3])
    assert {name: ids.tolist() for name, ids in groups.items()} == {"head": [1], "mid": [2, 3], "tail": [0]}


@pytest.mark.parametrize(
    ("classes", "name"), [(10, "CIFAR10LT"), (100, "CIFAR100LT"), (1000, "IMAGENETLT"), (8142, "INAT18")]
)
def test_default_cuts_are_the_published_ones(classes, name):
    assert default_cuts(classes) == tuple(WEIGHTS[f"boundaries_{name}"])


@pytest.mark.parametrize("classes", range(3, 60))
def test_from_three_classes_on_no_group_is_empty(classes):
    groups = frequency_groups(list(range(classes, 0, -1)))
    assert list(groups) == ["head", "mid", "tail"]
    assert np.concatenate(list(groups.values())).tolist() == list(range(classes))


def test_groups_of_one_and_two_classes():
    assert {name: ids.tolist() for name, ids in frequency_groups([4]).items()} == {"head": [0]}
    assert {name: ids.tolist() for name, ids in frequency_groups([4, 9]).items()} == {
        "head": [1],
        "tail": [0],
    }


def test_shots_on_imagenet_lt_differ_from_the_papers_cuts():
    counts = WEIGHTS["imagenetlt_counts_by_original_label"]
    sizes = {name: len(ids) for name, ids in frequency_groups(counts, "shots").items()}
    assert sizes == {"head": 385, "mid": 864 - 385, "tail": 1000 - 864}
    assert len(frequency_groups(counts)["head"]) == 390


def test_shots_at_their_borders():
    groups = frequency_groups([101, 100, 20, 19], "shots")
    assert {name: ids.tolist() for name, ids in groups.items()} == {"head": [0], "mid": [1, 2], "tail": [3]}


def test_a_group_without_a_class_is_absent():
    assert list(frequency_groups([500, 300], "shots")) == ["head"]
    assert list(frequency_groups([3, 2, 1], cuts=[0, 2])) == ["mid", "tail"]


@pytest.mark.parametrize("cuts", [[7, 3], [3], [-1, 2], [2, 11], [1, 2, 3]])
def test_bad_cuts_name_good_ones(cuts):
    with pytest.raises(ConfigError, match=r"type data\.group_cuts=\[3,7\]"):
        frequency_groups([1] * 10, cuts=cuts)


def test_unknown_scheme_gets_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'shots'"):
        frequency_groups([1, 2], "shot")
