import numpy as np
import pytest

from deitlt.reports.class_figures import (
    class_histogram,
    confusion_picture,
    group_spans,
    moving_mean,
    per_class_accuracy,
)
from deitlt.reports.figures import series_style

NAMES = ("teacher", "CLS", "DIST", "AVG", "plain ViT")


def labels(axes, side="x"):
    return [label.get_text() for label in getattr(axes, f"get_{side}ticklabels")()]


def legend(holder):
    return [text.get_text() for text in holder.get_texts()]


@pytest.mark.parametrize("classes", [3, 10, 100, 1000])
def test_every_series_has_a_label_and_every_group_its_name(long_tail, pixels, classes):
    draw = np.random.default_rng(1)
    recalls = {name: [None, *draw.uniform(0, 100, classes - 1).tolist()] for name in NAMES}
    figure = per_class_accuracy(recalls, *long_tail(classes), "a title")
    image = pixels(figure)
    assert image.std() > 10
    assert (image[:, [0, -1]] == 255).all()  # nothing is cut at the border
    assert legend(figure.legends[0]) == list(NAMES)
    assert figure.get_suptitle() == "a title"
    assert {"head", "mid", "tail"} <= {text.get_text() for text in figure.axes[0].texts}


def test_dots_stand_at_their_accuracy_in_order_of_frequency():
    rows = {"CLS": [10.0, None, 30.0], "DIST": [1.0, 2.0, 3.0]}
    (axes,) = per_class_accuracy(rows, [5, 1, 9], ["a", "b", "c"], {"head": [2], "tail": [0, 1]}).axes
    dots = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(dots["CLS"].get_xdata(), [30.0, 10.0, np.nan])
    np.testing.assert_array_equal(dots["DIST"].get_xdata(), [3.0, 1.0, 2.0])
    assert dots["DIST"].get_color() == series_style("DIST").colour
    assert labels(axes, "y") == ["c (9)", "a (5)", "b (1)"]
    assert axes.get_ylim() == (2.5, -0.5)  # the most frequent class on top


def test_lines_are_means_within_a_group(long_tail):
    counts, names, groups = long_tail(60)
    row = [100.0 if i in groups["head"] else 0.0 for i in range(60)]
    upper, lower = per_class_accuracy({"CLS": row}, counts, names, groups).axes
    head, mid, tail = (line.get_ydata() for line in upper.lines)
    assert (head == 100).all()
    assert (np.concatenate([mid, tail]) == 0).all()
    assert "moving mean of 3 classes" in upper.get_ylabel()
    assert lower.get_yscale() == "log"


def test_a_moving_mean_leaves_gaps_out_of_its_neighbours():
    values = np.array([1.0, 3.0, np.nan, 7.0, 9.0])
    np.testing.assert_allclose(moving_mean(values, 3), [2.0, 2.0, np.nan, 8.0, 8.0])
    np.testing.assert_allclose(moving_mean(values, 1), values)
    np.testing.assert_allclose(moving_mean(values[:2], 9), [2.0, 2.0])


def test_spans_are_stretches_of_one_group():
    order = np.array([2, 0, 1, 3])
    assert group_spans(order, {"head": [2, 0], "tail": [1]}) == [("head", 0, 2), ("tail", 2, 3), ("", 3, 4)]
    assert [name for name, *_ in group_spans(order, {"head": [2, 1], "tail": [0, 3]})] == ["head", "tail"] * 2


def test_few_classes_are_named_and_counted_in_order_of_frequency():
    figure = class_histogram([10, 30, 20], ["ant", "bee", "cat"], {"head": [1], "tail": [0]})
    (axes,) = figure.axes
    assert labels(axes) == ["bee", "cat", "ant"]
    assert sorted(bar.get_height() for bar in axes.patches) == [10, 20, 30]
    assert axes.get_yscale() == "linear"
    said = ["head: 1 class, 30 images", "tail: 1 class, 10 images", "in no group: 1 class, 20 images"]
    assert legend(axes.get_legend()) == said
    assert figure.get_suptitle() == "60 training images in 3 classes, largest to smallest 3 : 1"


def test_many_classes_are_not_named_and_large_ratios_are_logarithmic(long_tail):
    (axes,) = class_histogram(*long_tail(100)).axes
    assert "class 0" not in labels(axes)
    assert axes.get_ylabel() == "training images, log scale"


def test_long_names_and_classes_without_an_image_are_inside_the_picture(pixels):
    names = [f"a $ rather long class name {i}" for i in range(10)]
    figure = class_histogram(range(9, -1, -1), names, {"head": range(10)})
    assert (pixels(figure)[-1] == 255).all()
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {40.0}


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_confusion_of_few_or_many_classes_has_a_cell_for_each(pixels, classes):
    images = np.random.default_rng(0).integers(1, 9, (classes, classes))
    images[0] = 0  # a class of which no image was tested
    order = list(range(classes))
    groups = {"head": order[: classes // 2], "tail": order[classes // 2 :]}
    names = [f"class $ {c} with a long name" for c in order]
    figure = confusion_picture(images, range(classes, 0, -1), names, groups, "title")
    shares = figure.axes[0].images[0].get_array()
    assert np.isnan(np.ma.filled(shares, np.nan)[0]).all()
    np.testing.assert_allclose(shares[1:].sum(axis=1), 100)
    assert len(np.unique(pixels(figure).reshape(-1, 3), axis=0)) > 20


def test_a_confusion_of_too_many_classes_is_a_bug():
    with pytest.raises(AssertionError, match="more classes"):
        confusion_picture(np.ones((101, 101)), range(101), [""] * 101, {}, "t")
