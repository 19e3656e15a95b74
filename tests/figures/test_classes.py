import matplotlib.colors
import numpy as np
import pytest

from deitlt.figures import GROUP_COLOURS, class_histogram


@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_the_picture_has_its_size_and_the_groups_colours(tmp_path, long_tail, pixels, classes):
    counts, names, groups = long_tail(classes)
    image = pixels(class_histogram(counts, names, groups, tmp_path / "classes.png"))
    assert image.shape == (675, 1350, 3)
    for colour in GROUP_COLOURS.values():
        rgb = np.round(255 * np.array(matplotlib.colors.to_rgb(colour)))
        assert (image == rgb).all(axis=2).sum() > 2000
    assert (image[[0, -1]] == 255).all()  # nothing is cut at the border
    assert (image[:, [0, -1]] == 255).all()


def test_few_classes_are_named_in_order_of_frequency(tmp_path, drawn):
    class_histogram([10, 30, 20], ["ant", "bee", "cat"], {"head": [1], "tail": [0, 2]}, tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["bee", "cat", "ant"]
    assert [bar.get_height() for bar in axes.patches] == [30, 20, 10]
    assert axes.get_yscale() == "linear"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "head: 1 class, 30 images",
        "tail: 2 classes, 30 images",
    ]
    assert axes.get_title(loc="left") == "60 training images in 3 classes, largest to smallest 3 : 1"


def test_many_classes_are_not_named_and_large_ratios_are_logarithmic(tmp_path, long_tail, drawn):
    class_histogram(*long_tail(100), tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert "class 0" not in [label.get_text() for label in axes.get_xticklabels()]
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "training images, log scale"


def test_classes_without_group_or_image_are_drawn_all_the_same(tmp_path, drawn, pixels):
    path = class_histogram([50, 0, 2], ["a", "$b", "c" * 40], {"head": [0]}, tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()][1] == "in no group: 2 classes, 2 images"
    assert pixels(path).std() > 10


def test_long_names_are_slanted_and_inside_the_picture(tmp_path, drawn, pixels):
    names = [f"a rather long class name {i}" for i in range(10)]
    path = class_histogram(range(10, 0, -1), names, {"head": range(10)}, tmp_path / "a.png")
    assert {label.get_rotation() for label in drawn[0].axes[0].get_xticklabels()} == {35.0}
    assert (pixels(path)[-1] == 255).all()
