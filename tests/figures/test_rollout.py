import numpy as np
import pytest

from deitlt.figures import RolloutExample, attention_rollouts

SHARES = np.array([[0.7, 0.1], [0.1, 0.1]])


def maps(figure):
    """What the axes show that are neither an image nor the colour bar, from the top."""
    shown = [axes.images[0] for axes in figure.axes if axes.images]
    return [image for image in shown if image.get_array().ndim == 2]


def test_a_row_an_image_and_a_column_a_token(tmp_path, drawn, pixels):
    image = np.random.default_rng(0).uniform(size=(16, 16, 3)).astype(np.float32)
    examples = [RolloutExample(image, {"cls": SHARES, "dist": SHARES.T}, f"class {i}") for i in range(3)]
    assert pixels(attention_rollouts(examples, tmp_path / "a.png", "a title")).std() > 10
    axes = drawn[0].axes
    assert len(axes) == 9 + 1  # the colours' bar
    assert [one.get_title() or one.get_title("center") for one in axes[:3]] == ["image", "CLS", "DIST"]
    assert [one.get_ylabel() for one in axes[:9:3]] == ["class 0", "class 1", "class 2"]


def test_one_image_of_a_student_with_one_token(tmp_path, drawn):
    attention_rollouts([RolloutExample(np.zeros((8, 8, 3), np.uint8), {"cls": SHARES}, "c")], tmp_path / "a.png", "t")
    assert len(drawn[0].axes) == 3


def test_what_is_shown_is_the_share_over_the_even_one_and_nothing_of_the_image(tmp_path, drawn):
    image = np.random.default_rng(0).uniform(size=(8, 12, 3))
    attention_rollouts([RolloutExample(image, {"cls": SHARES, "dist": SHARES.T}, "c")], tmp_path / "a.png", "t")
    cls, dist = maps(drawn[0])
    assert np.asarray(cls.get_array()) == pytest.approx(4 * SHARES)
    assert np.asarray(dist.get_array()) == pytest.approx(4 * SHARES.T)


def test_the_more_a_patch_gets_the_redder_whatever_the_image(tmp_path, drawn):
    white, black = np.ones((8, 8, 3)), np.zeros((8, 8, 3))
    examples = [RolloutExample(image, {"cls": SHARES}, "c") for image in (white, black)]
    attention_rollouts(examples, tmp_path / "a.png", "t")
    colours = [shown.cmap(shown.norm(shown.get_array())) for shown in maps(drawn[0])]
    assert np.array_equal(*colours)
    red, blue = colours[0][0, 0, :3], colours[0][1, 1, :3]
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_one_scale_is_for_all_of_it_with_chance_in_its_middle(tmp_path, drawn):
    examples = [RolloutExample(np.zeros((8, 8, 3)), {"cls": s}, "c") for s in (SHARES, np.full((2, 2), 0.25))]
    attention_rollouts(examples, tmp_path / "a.png", "t")
    sharp, even = maps(drawn[0])
    assert sharp.norm is even.norm
    assert even.norm(1.0) == pytest.approx(0.5)
    assert even.norm.vmax == pytest.approx(2.8)
    assert even.cmap(even.norm(1.0))[:3] == pytest.approx((1, 1, 1), abs=0.05)
    assert "1: as much as by chance" in drawn[0].axes[-1].get_ylabel()


def test_nearly_even_attention_looks_so(tmp_path, drawn):
    nearly = np.array([[0.26, 0.24], [0.25, 0.25]])
    attention_rollouts([RolloutExample(np.zeros((8, 8, 3)), {"cls": nearly}, "c")], tmp_path / "a.png", "t")
    (shown,) = maps(drawn[0])
    assert shown.norm.vmax == 2
