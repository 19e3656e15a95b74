import numpy as np
import pytest

from deitlt.reports.image_figures import ImageExample, RolloutExample, attention_rollouts, image_grid

SHARES = np.array([[0.7, 0.1], [0.1, 0.1]])


def example(caption="63% cat + 37% dog", **widths):
    draw = np.random.default_rng(0)
    pictures = {"student's view": draw.random((32, 32, 3)), "teacher's view": draw.random((8, 8, 3))}
    original = draw.integers(0, 255, (40, 45, 3), dtype=np.uint8)
    others = {name: draw.random((width, width, 3)) for name, width in widths.items()}
    return ImageExample({"original": original, **pictures, **others}, caption)


def texts(figure):
    return [text.get_text() for text in figure.texts]


def maps(figure):
    """What the axes show that are neither an image nor the colour bar, from the top."""
    shown = [axes.images[0] for axes in figure.axes if axes.images]
    return [image for image in shown if image.get_array().ndim == 2]


@pytest.mark.parametrize(("number", "rows", "columns"), [(1, 1, 3), (3, 3, 3), (6, 3, 6)])
def test_the_picture_grows_with_the_examples(pixels, number, rows, columns):
    figure = image_grid([example()] * number)
    assert len({axes.get_subplotspec().rowspan.start for axes in figure.axes}) == rows
    assert len({round(axes.get_position().x0, 3) for axes in figure.axes}) == columns
    image = pixels(figure)
    assert image.std() > 20
    assert (image[[0, -1]] == 255).all()
    assert (image[:, [0, -1]] == 255).all()


def test_long_rows_stand_in_one_block():
    figure = image_grid([example(crop=16)] * 6)
    assert len(figure.axes) == 6 * 4
    assert len({round(axes.get_position().x0, 3) for axes in figure.axes}) == 4
    assert texts(figure).count("crop, 16 px") == 1


def test_every_row_has_its_pictures_and_targets_and_a_gap_for_what_it_lacks():
    bare = ImageExample({name: image for name, image in example().pictures.items() if name != "original"}, "cat")
    figure = image_grid([example(crop=8), bare, example(crop=116)])
    shapes = [axes.images[0].get_array().shape[:2] for axes in figure.axes]
    assert shapes == [(40, 45), (32, 32), (8, 8), (8, 8), (32, 32), (8, 8), (40, 45), (32, 32), (8, 8), (116, 116)]
    heads = {"original, 45 px", "student's view, 32 px", "teacher's view, 8 px", "crop, 8-116 px"}
    assert set(texts(figure)) == heads | {"63% cat + 37% dog", "cat"}
    lefts = [round(axes.get_position().x0, 3) for axes in figure.axes]
    assert lefts[1:3] == lefts[4:6]
    assert [axes.images[0].get_interpolation() for axes in figure.axes[:-1]] == ["nearest"] * 9
    assert figure.axes[-1].images[0].get_interpolation() != "nearest"


def test_a_title_takes_its_own_room_and_long_words_are_cut():
    without, titled = image_grid([example()]), image_grid([example(caption="x" * 500)], "y" * 500)
    assert titled.get_figheight() > without.get_figheight()
    cut = [text for text in (*texts(titled), titled.get_suptitle()) if text.endswith("…")]
    assert {text[0] for text in cut} == {"x", "y"}
    assert all(len(text) < 100 for text in cut)


def test_a_colour_is_drawn_as_it_is(pixels):
    red = np.zeros((4, 4, 3), dtype=np.uint8)
    red[..., 0] = 200
    green = np.zeros((4, 4, 3), dtype=np.float32)
    green[..., 1] = 1.3  # a hair over 1, as bicubic resizing leaves it
    image = pixels(image_grid([ImageExample({"red": red, "green": green}, "x")]))
    assert (image == [200, 0, 0]).all(axis=2).sum() > 70**2
    assert (image == [0, 255, 0]).all(axis=2).sum() > 70**2


def test_rollouts_have_a_row_an_image_and_a_column_a_token(pixels):
    image = np.random.default_rng(0).uniform(size=(16, 16, 3)).astype(np.float32)
    examples = [RolloutExample(image, {"cls": SHARES, "dist": SHARES.T}, f"class {i}") for i in range(3)]
    figure = attention_rollouts(examples, "a title")
    assert pixels(figure).std() > 10
    assert len(figure.axes) == 9 + 1  # the colours' bar
    assert [axes.get_title("center") for axes in figure.axes[:3]] == ["image", "CLS", "DIST"]
    assert [axes.get_ylabel() for axes in figure.axes[:9:3]] == ["class 0", "class 1", "class 2"]


def test_a_rollout_is_the_share_over_the_even_one_whatever_the_image():
    white, black = np.ones((8, 12, 3)), np.zeros((8, 12, 3))
    examples = [RolloutExample(image, {"cls": SHARES}, "c") for image in (white, black)]
    first, second = maps(attention_rollouts(examples, "t"))
    assert np.asarray(first.get_array()) == pytest.approx(4 * SHARES)
    colours = [shown.cmap(shown.norm(shown.get_array())) for shown in (first, second)]
    assert np.array_equal(*colours)
    red, blue = colours[0][0, 0, :3], colours[0][1, 1, :3]
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_one_scale_is_for_all_of_it_with_chance_in_its_middle():
    examples = [RolloutExample(np.zeros((8, 8, 3)), {"cls": s}, "c") for s in (SHARES, np.full((2, 2), 0.25))]
    figure = attention_rollouts(examples, "t")
    sharp, even = maps(figure)
    assert sharp.norm is even.norm
    assert even.norm(1.0) == pytest.approx(0.5)
    assert even.norm.vmax == pytest.approx(2.8)
    assert even.cmap(even.norm(1.0))[:3] == pytest.approx((1, 1, 1), abs=0.05)
    assert "1: as much as by chance" in figure.axes[-1].get_ylabel()
    nearly = np.array([[0.26, 0.24], [0.25, 0.25]])
    (shown,) = maps(attention_rollouts([RolloutExample(np.zeros((8, 8, 3)), {"cls": nearly}, "c")], "t"))
    assert shown.norm.vmax == 2  # attention that is nearly even looks so
