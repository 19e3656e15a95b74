import numpy as np
import pytest

from deitlt.figures import ViewExample, view_grid


def example(caption="63% cat + 37% dog", **widths):
    draw = np.random.default_rng(0)
    pictures = {"student's view": draw.random((32, 32, 3)), "teacher's view": draw.random((8, 8, 3))}
    original = draw.integers(0, 255, (40, 45, 3), dtype=np.uint8)
    others = {name: draw.random((width, width, 3)) for name, width in widths.items()}
    return ViewExample({"original": original, **pictures, **others}, caption)


def texts(figure):
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize(("number", "size"), [(1, (372, 876)), (3, (1014, 876)), (6, (1014, 1768))])
def test_the_picture_grows_with_the_examples(tmp_path, pixels, number, size):
    image = pixels(view_grid([example()] * number, tmp_path / "views.png"))
    assert image.shape[:2] == pytest.approx(size, abs=3)
    assert image.std() > 20
    assert (image[[0, -1]] == 255).all()
    assert (image[:, [0, -1]] == 255).all()


def test_long_rows_stand_in_one_block(tmp_path, drawn):
    view_grid([example(crop=16)] * 6, tmp_path / "views.png")
    lefts = {round(axes.get_position().x0, 3) for axes in drawn[0].axes}
    assert len(drawn[0].axes) == 6 * 4
    assert len(lefts) == 4
    assert texts(drawn[0]).count("crop, 16 px") == 1


def test_every_row_has_its_views_and_targets(tmp_path, drawn):
    bare = ViewExample({name: view for name, view in example().pictures.items() if name != "original"}, "cat")
    view_grid([example(), bare], tmp_path / "views.png")
    shapes = [axes.images[0].get_array().shape[:2] for axes in drawn[0].axes]
    assert shapes == [(40, 45), (32, 32), (8, 8), (32, 32), (8, 8)]
    assert set(texts(drawn[0])) == {
        "original, 45 px",
        "student's view, 32 px",
        "teacher's view, 8 px",
        "63% cat + 37% dog",
        "cat",
    }
    lefts = [round(axes.get_position().x0, 3) for axes in drawn[0].axes]
    assert lefts[1:3] == lefts[3:]  # beside an empty place


def test_a_column_of_several_sizes_names_the_smallest_and_the_largest(tmp_path, drawn):
    view_grid([example(crop=32), example(crop=8), example(crop=16)], tmp_path / "views.png")
    assert "crop, 8-32 px" in texts(drawn[0])


def test_without_originals_there_is_no_column_for_them(tmp_path, drawn):
    view_grid([ViewExample({"view": np.zeros((8, 8, 3))}, "cat")], tmp_path / "views.png")
    assert len(drawn[0].axes) == 1
    assert texts(drawn[0]) == ["cat", "view, 8 px"]


def test_a_title_stands_over_all_and_takes_its_own_room(tmp_path, drawn, pixels):
    without = pixels(view_grid([example()], tmp_path / "views.png"))
    titled = pixels(view_grid([example()], tmp_path / "titled.png", "What the teacher trains on"))
    assert len(titled) == pytest.approx(len(without) + 54, abs=2)
    top = max(drawn[1].texts, key=lambda text: text.get_position()[1])
    assert top.get_text() == "What the teacher trains on"
    assert (titled[60:] == without[len(without) - len(titled) + 60 :]).all()


def test_small_images_show_their_pixels_and_large_ones_are_smooth(tmp_path, drawn):
    view_grid([example(large=224)], tmp_path / "views.png")
    *_, teacher, large = (axes.images[0] for axes in drawn[0].axes)
    assert teacher.get_interpolation() == "nearest"
    assert large.get_interpolation() != "nearest"


def test_a_colour_is_drawn_as_it_is(tmp_path, pixels):
    red = np.zeros((4, 4, 3), dtype=np.uint8)
    red[..., 0] = 200
    green = np.zeros((4, 4, 3), dtype=np.float32)
    green[..., 1] = 1.3  # a hair over 1, as bicubic resizing leaves it
    image = pixels(view_grid([ViewExample({"red": red, "green": green}, "x")], tmp_path / "views.png"))
    assert (image == [200, 0, 0]).all(axis=2).sum() > 200**2
    assert (image == [0, 255, 0]).all(axis=2).sum() > 200**2


def test_long_targets_and_titles_are_cut(tmp_path, drawn):
    view_grid([example(caption="x" * 500)], tmp_path / "views.png", "y" * 500)
    cut = [text for text in texts(drawn[0]) if text.endswith("…")]
    assert {text[0] for text in cut} == {"x", "y"}
    assert all(len(text) < 100 for text in cut)
