import numpy as np
import pytest

from deitlt.figures import per_class_accuracy, series_style
from deitlt.figures.accuracy import moving_mean

NAMES = ("teacher", "CLS", "DIST", "AVG", "plain ViT")


def recalls(classes, gaps=()):
    draw = np.random.default_rng(1)
    rows = {name: draw.uniform(0, 100, classes).tolist() for name in NAMES}
    for row in rows.values():
        for gap in gaps:
            row[gap] = None
    return rows


@pytest.mark.parametrize("classes", [3, 10, 100, 1000])
def test_the_picture_has_its_size_and_every_series_a_label(tmp_path, long_tail, pixels, drawn, classes):
    path = per_class_accuracy(recalls(classes, [1]), *long_tail(classes), tmp_path / "a.png", "a title")
    image = pixels(path)
    assert image.shape == (870, 1500, 3)
    assert image.std() > 10
    assert (image[:, [0, -1]] == 255).all()
    assert [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()] == list(NAMES)
    assert drawn[0].get_suptitle() == "a title"
    assert {"head", "mid", "tail"} <= {text.get_text() for text in drawn[0].axes[0].texts}


def test_dots_stand_at_their_accuracy_in_order_of_frequency(tmp_path, drawn):
    rows = {"CLS": [10.0, None, 30.0], "DIST": [1.0, 2.0, 3.0]}
    groups = {"head": [2], "tail": [0, 1]}
    per_class_accuracy(rows, [5, 1, 9], ["a", "b", "c"], groups, tmp_path / "a.png", "t")
    upper, lower = drawn[0].axes
    dots = {line.get_label(): line for line in upper.lines}
    np.testing.assert_array_equal(dots["CLS"].get_ydata(), [30.0, 10.0, np.nan])
    np.testing.assert_array_equal(dots["DIST"].get_ydata(), [3.0, 1.0, 2.0])
    assert dots["DIST"].get_color() == series_style("DIST").colour
    assert [label.get_text() for label in lower.get_xticklabels()] == ["c", "a", "b"]
    assert [bar.get_height() for bar in lower.patches] == [9, 5, 1]


def test_lines_are_means_within_a_group(tmp_path, drawn, long_tail):
    counts, names, groups = long_tail(60)
    row = [100.0 if i in groups["head"] else 0.0 for i in range(60)]
    per_class_accuracy({"CLS": row}, counts, names, groups, tmp_path / "a.png", "t")
    head, mid, tail = (line.get_ydata() for line in drawn[0].axes[0].lines)
    assert (head == 100).all()
    assert (mid == 0).all()
    assert (tail == 0).all()
    assert "moving mean of 3 classes" in drawn[0].axes[0].get_ylabel()


def test_a_moving_mean_leaves_gaps_out_of_its_neighbours():
    values = np.array([1.0, 3.0, np.nan, 7.0, 9.0])
    np.testing.assert_allclose(moving_mean(values, 3), [2.0, 2.0, np.nan, 8.0, 8.0])
    np.testing.assert_allclose(moving_mean(values, 1), values)
    np.testing.assert_allclose(moving_mean(values[:2], 9), [2.0, 2.0])
