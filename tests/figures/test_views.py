import numpy as np
import pytest

from deitlt.figures import ViewExample, view_grid


def example(student=32, teacher=8, original=40, caption="0.63 cat + 0.37 dog"):
    draw = np.random.default_rng(0)
    kept = draw.integers(0, 255, (original, original + 5, 3), dtype=np.uint8) if original else None
    return ViewExample(draw.random((student, student, 3)), draw.random((teacher, teacher, 3)), caption, kept)


@pytest.mark.parametrize(("number", "size"), [(1, (372, 876)), (3, (1014, 876)), (6, (1014, 1768))])
def test_the_picture_grows_with_the_examples(tmp_path, pixels, number, size):
    image = pixels(view_grid([example()] * number, tmp_path / "views.png"))
    assert image.shape[:2] == pytest.approx(size, abs=3)
    assert image.std() > 20
    assert (image[[0, -1]] == 255).all()
    assert (image[:, [0, -1]] == 255).all()


def test_every_row_has_its_views_and_targets(tmp_path, drawn):
    view_grid([example(), example(caption="cat", original=None)], tmp_path / "views.png")
    shapes = [axes.images[0].get_array().shape[:2] for axes in drawn[0].axes]
    assert shapes == [(40, 45), (32, 32), (8, 8), (32, 32), (8, 8)]
    texts = [text.get_text() for text in drawn[0].texts]
    assert texts == [
        "original, 45 px",
        "student's view, 32 px",
        "teacher's view, 8 px",
        "0.63 cat + 0.37 dog",
        "cat",
    ]


def test_without_originals_there_is_no_column_for_them(tmp_path, drawn):
    view_grid([example(original=None)], tmp_path / "views.png")
    assert len(drawn[0].axes) == 2
    assert "original" not in " ".join(text.get_text() for text in drawn[0].texts)


def test_small_images_show_their_pixels_and_large_ones_are_smooth(tmp_path, drawn):
    view_grid([example(student=224, teacher=32)], tmp_path / "views.png")
    _, student, teacher = (axes.images[0] for axes in drawn[0].axes)
    assert teacher.get_interpolation() == "nearest"
    assert student.get_interpolation() != "nearest"


def test_a_colour_is_drawn_as_it_is(tmp_path, pixels):
    red = np.zeros((4, 4, 3), dtype=np.uint8)
    red[..., 0] = 200
    green = np.zeros((4, 4, 3), dtype=np.float32)
    green[..., 1] = 1.3  # a hair over 1, as bicubic resizing leaves it
    image = pixels(view_grid([ViewExample(red, green, "x")], tmp_path / "views.png"))
    assert (image == [200, 0, 0]).all(axis=2).sum() > 200**2
    assert (image == [0, 255, 0]).all(axis=2).sum() > 200**2


def test_long_targets_are_cut(tmp_path, drawn):
    view_grid([example(caption="x" * 500)], tmp_path / "views.png")
    assert drawn[0].texts[-1].get_text().endswith("…")
