import numpy as np
import pytest

from deitlt.figures import RolloutExample, attention_rollouts
from deitlt.figures.rollout import overlay

BRIGHT = np.array([[0.7, 0.1], [0.1, 0.1]])


def test_a_row_an_image_and_a_column_a_token(tmp_path, drawn, pixels):
    image = np.random.default_rng(0).uniform(size=(16, 16, 3)).astype(np.float32)
    examples = [RolloutExample(image, {"cls": BRIGHT, "dist": BRIGHT.T}, f"class {i}") for i in range(3)]
    assert pixels(attention_rollouts(examples, tmp_path / "a.png", "a title")).std() > 10
    axes = drawn[0].axes
    assert len(axes) == 9
    assert [one.get_title() or one.get_title("center") for one in axes[:3]] == ["image", "CLS", "DIST"]
    assert [one.get_ylabel() for one in axes[::3]] == ["class 0", "class 1", "class 2"]


def test_one_image_of_a_student_with_one_token(tmp_path, drawn):
    attention_rollouts([RolloutExample(np.zeros((8, 8, 3), np.uint8), {"cls": BRIGHT}, "c")], tmp_path / "a.png", "t")
    assert len(drawn[0].axes) == 2


@pytest.mark.parametrize("size", [(4, 4), (6, 10), (5, 5)])
def test_the_overlay_is_brightest_where_the_token_looks(size):
    height, width = size
    shown = overlay(np.full((height, width, 3), 0.5), BRIGHT).sum(axis=2)
    assert shown.shape == size
    assert shown[0, 0] == shown.max()
    assert shown[: -(-height // 2), : -(-width // 2)] == pytest.approx(shown.max())
    assert (shown[-1] < shown.max()).all()


def test_a_rollout_of_nothing_is_dark_and_bytes_are_as_floats():
    image = np.full((4, 4, 3), 255, np.uint8)
    assert overlay(image, np.zeros((2, 2))) == pytest.approx(overlay(image / 255.0, np.zeros((2, 2))))
