import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timms

from deitlt.transforms.operations import Layer, Operation, draw_warps
from deitlt.transforms.randaugment import BatchRandAugment, parse_policy

FILL = (124, 116, 104)
COLOURS = [
    ("invert", Operation.INVERT, ()),
    ("brightness", Operation.BRIGHTNESS, (0.1, 0.731, 1.0, 1.83)),
    ("posterize", Operation.POSTERIZE, (0, 1, 3, 4)),
    ("solarize", Operation.SOLARIZE, (0, 26, 128, 256)),
    ("solarize_add", Operation.SOLARIZE_ADD, (0, 99, 110)),
    ("contrast", Operation.CONTRAST, (0.1, 0.731, 1.0, 1.83)),
    ("auto_contrast", Operation.AUTO_CONTRAST, ()),
    ("equalize", Operation.EQUALIZE, ()),
    ("color", Operation.COLOR, (0.1, 0.731, 1.0, 1.9)),
    ("sharpness", Operation.SHARPNESS, (0.1, 0.731, 1.0, 1.9)),
]
MOVES = [
    ("rotate", Operation.ROTATE, (-27.3, 13.1)),
    ("shear_x", Operation.SHEAR_X, (-0.287, 0.171)),
    ("shear_y", Operation.SHEAR_Y, (-0.287, 0.171)),
    ("translate_x_rel", Operation.TRANSLATE_X, (-0.413, 0.277)),
    ("translate_y_rel", Operation.TRANSLATE_Y, (-0.413, 0.277)),
]


@pytest.fixture
def pictures(picture):
    """The picture; a dull and a grey one; one level only; few pixels; hardly any."""
    dull = np.asarray(picture) // 3 + 40
    shapes = [np.asarray(picture), dull, np.full_like(dull, 77), dull[:5, :4], dull[:2, :3]]
    return [*map(Image.fromarray, shapes), picture.convert("L").convert("RGB")]


def as_batch(picture, copies=1):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().repeat(copies, 1, 1, 1)


def ours(images, *layers):
    """Layers of (operations, arguments), one of each for each image."""
    augment = BatchRandAugment(parse_policy("here", "rand-m9-mstd0.5-inc1"), FILL)
    made = [Layer(np.array(operations), np.array(arguments, float)) for operations, arguments in layers]
    return augment(images, draw_warps(made, (images.shape[-2], images.shape[-1]))).permute(0, 2, 3, 1).numpy()


def theirs(picture, name, *words):
    moved = getattr(timms, name)(picture, *words, fillcolor=FILL, resample=Image.Resampling.BICUBIC)
    return np.asarray(moved).astype(int)


@pytest.mark.parametrize(("name", "operation", "arguments"), COLOURS)
def test_colours_change_exactly_as_pillows(pictures, name, operation, arguments):
    for picture in pictures:
        for words in [(argument,) for argument in arguments] or [()]:
            [result] = ours(as_batch(picture), ([operation], words or [0.0]))
            assert np.abs(result - theirs(picture, name, *words)).max() <= 1, words
            assert (result != theirs(picture, name, *words)).mean() < 0.06


@pytest.mark.parametrize(("name", "operation", "arguments"), MOVES)
def test_moves_are_pillows_but_for_the_kernel_of_rotations(picture, name, operation, arguments):
    smooth = picture.resize((96, 72), Image.Resampling.BICUBIC)
    for argument in arguments:
        [result] = ours(as_batch(smooth), ([operation], [argument]))
        difference = np.abs(result - theirs(smooth, name, argument))
        if operation != Operation.ROTATE:
            assert difference.max() <= 1
            assert (difference > 0).mean() < 0.02
        assert np.median(difference) <= 1
        assert difference.mean() < 1
        assert np.quantile(difference, 0.99) <= 8  # Pillow's kernel overshoots more, at edges


@pytest.mark.parametrize(("name", "operation", "arguments"), MOVES)
def test_what_comes_from_outside_has_one_colour_at_the_same_pixels(name, operation, arguments):
    white = Image.new("RGB", (33, 22), (255, 255, 255))
    for argument in arguments:
        [result] = ours(as_batch(white), ([operation], [argument]))
        expected = theirs(white, name, argument)
        assert (expected == FILL).any()
        assert ((result == FILL) == (expected == FILL)).all()
        assert (result == expected).all()


def test_two_moves_in_one_lose_what_two_would_lose(picture):
    smooth = picture.resize((96, 72), Image.Resampling.BICUBIC)
    firsts, seconds = (MOVES[i][1] for i in (3, 0)), (MOVES[i][1] for i in (3, 2))
    pairs = zip(firsts, (0.4, 21.0), seconds, (-0.35, 0.2), strict=True)
    names = {operation: name for name, operation, _ in MOVES}
    for first, one, second, two in pairs:
        [result] = ours(as_batch(smooth), ([first], [one]), ([second], [two]))
        between = Image.fromarray(theirs(smooth, names[first], one).astype(np.uint8))
        expected = theirs(between, names[second], two)
        assert ((result == FILL).all(-1) != (expected == FILL).all(-1)).mean() < 0.03  # borders
        difference = np.abs(result - expected)
        assert np.median(difference) <= 2
        assert difference.mean() < 2  # the border's mixtures of both


def test_moves_before_a_colour_are_not_folded(picture):
    [result] = ours(as_batch(picture), ([Operation.TRANSLATE_X], [0.25]), ([Operation.INVERT], [0]))
    expected = 255 - theirs(picture, "translate_x_rel", 0.25)
    assert (result[:, -6:] == 255 - np.array(FILL)).all()
    assert np.abs(result - expected).max() <= 1  # by whole pixels


def test_three_layers_of_moves_are_all_applied(picture):
    thrice = [([Operation.TRANSLATE_X], [0.125])] * 3
    [result] = ours(as_batch(picture), *thrice)
    assert np.abs(result[:, :20] - np.asarray(picture)[:, 12:].astype(int)).max() <= 1
    assert (result[:, 20:] == FILL).all()


def test_each_sample_gets_its_own_operation_and_others_are_left_alone(picture):
    every = [*COLOURS, *MOVES]
    operations = [operation for _, operation, _ in every]
    arguments = [(words or (0.0,))[-1] for *_, words in every]
    order = np.random.default_rng(0).permutation(len(every) + 3)
    drawn = np.array([*operations, *[Operation.NONE] * 3])[order]
    levels = np.array([*arguments, 0, 0, 0], float)[order]
    together = ours(as_batch(picture, len(order)), (drawn, levels))
    for i, (operation, argument) in enumerate(zip(drawn, levels, strict=True)):
        [alone] = ours(as_batch(picture), ([operation], [argument]))
        assert np.abs(together[i] - alone).max() <= 1e-3, operation
        if operation == Operation.NONE:
            assert (together[i] == np.asarray(picture)).all()


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(24, 32), (24, 24)])
def test_both_kinds_of_interpolation_move_images_of_any_shape(picture, mode, size):
    part = picture.crop((0, 0, size[1], size[0]))
    augment = BatchRandAugment(parse_policy("here", "rand-m9-mstd0.5-inc1"), FILL, mode)
    moves = MOVES[1:]
    layer = Layer(np.array([int(operation) for _, operation, _ in moves]), np.array([0.21, -0.17, 0.333, -0.123]))
    results = augment(as_batch(part, 4), draw_warps([layer], size)).permute(0, 2, 3, 1).numpy()
    for (name, *_), argument, result in zip(moves, layer.arguments, results, strict=True):
        resample = Image.Resampling[mode.upper()]
        expected = np.asarray(getattr(timms, name)(part, argument, fillcolor=FILL, resample=resample)).astype(int)
        assert np.abs(result - expected).max() <= 1
