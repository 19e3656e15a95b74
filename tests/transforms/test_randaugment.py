import numpy as np
import pytest
import torch
from timm.data.auto_augment import rand_augment_transform

from deitlt.errors import ConfigError
from deitlt.transforms.operations import Operation
from deitlt.transforms.randaugment import ARGUMENTS, BatchRandAugment, parse_policy

DRAWS = 12000
SIGNED = {Operation.ROTATE, Operation.SHEAR_X, Operation.SHEAR_Y, Operation.TRANSLATE_X, Operation.TRANSLATE_Y}
ENHANCED = {Operation.COLOR, Operation.CONTRAST, Operation.BRIGHTNESS, Operation.SHARPNESS}


def timms_draws(description):
    """[DRAWS, layers] operations, and the same of arguments, as timm's own code draws them."""
    made, seen = rand_augment_transform(description), []
    for op in made.ops:
        number = int(ARGUMENTS[op.name][0])
        op.aug_fn = lambda image, *words, number=number, **_: seen[-1].append((number, *words, 0.0)[:2]) or image
    for _ in range(DRAWS):
        seen.append([])
        made(None)
    return [[layer[0] for layer in draw] for draw in seen], [pair for draw in seen for pair in draw]


def our_draws(description):
    layers = parse_policy("here", description).draw(DRAWS, np.random.default_rng(1))
    return np.stack([layer.operations for layer in layers]), np.stack([layer.arguments for layer in layers])


def assert_near(ours, theirs, out_of):
    """Two counts out of so many draws each, within four standard deviations."""
    share = (ours + theirs) / (2 * out_of)
    assert abs(ours - theirs) <= 4 * (2 * out_of * share * (1 - share)) ** 0.5 + 1


DESCRIPTIONS = ["rand-m9-mstd0.5-inc1", "rand-m5-n1-mstd0.5-inc1", "rand-m6-n3-p0.8-mstd101", "rand-m12-mmax14-mstd2"]


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_operations_and_arguments_are_distributed_as_timms(assert_one_distribution, description):
    chosen, pairs = timms_draws(description)
    operations, arguments = our_draws(description)
    applied = operations >= 0
    for number in range(len(operations) + 1):  # of operations that an image gets
        assert_near((applied.sum(axis=0) == number).sum(), sum(len(draw) == number for draw in chosen), DRAWS)
    for operation in Operation:
        ours = arguments[operations == operation]
        theirs = np.array([argument for number, argument in pairs if number == operation])
        if operation is Operation.NONE:
            assert (ours == 0).all()
            continue
        assert_near(len(ours), len(theirs), DRAWS * len(operations))
        assert_one_distribution(ours, theirs)
        assert ours.mean() == pytest.approx(theirs.mean(), abs=4 * ours.std() * (2 / len(ours)) ** 0.5 + 1e-9)
        fourth = ((ours - ours.mean()) ** 4).mean() / (ours.var() + 1e-12) ** 2
        assert ours.std() == pytest.approx(theirs.std(), rel=4 * (fourth / 2 / len(ours)) ** 0.5, abs=1e-9)


def test_layers_are_drawn_apart():
    operations, _ = our_draws("rand-m9-mstd0.5-inc1")
    both = ((operations >= 0).all(axis=0)).sum()
    assert abs(both - DRAWS / 4) < 4 * (DRAWS * 3 / 16) ** 0.5
    same = (operations[0] == operations[1])[(operations >= 0).all(axis=0)].mean()
    assert abs(same - 1 / 15) < 0.02  # drawn with replacement


def test_levels_stay_whole_and_in_range(picture):
    augment = BatchRandAugment(parse_policy("here", "rand-m9-n4-p1.0-mstd0.5-inc1"), (124, 116, 104))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
    images = augment(pixels.repeat(64, 1, 1, 1), augment.draw(64, (24, 32), np.random.default_rng(0)))
    assert (images == images.round()).all()
    assert images.min() >= 0
    assert images.max() <= 255
    assert len(images.flatten(1).unique(dim=0)) == 64


@pytest.mark.parametrize("description", ["random", "rand-x3", "rand-m1.5", "augmix-m5", "", "v0"])
def test_what_is_no_randaugment_is_named(description):
    with pytest.raises(ConfigError, match=rf"^there.rand_augment={description} is no RandAugment .* type there\."):
        parse_policy("there", description)


@pytest.mark.parametrize(("part", "reason"), [("tweights", "weights its operations"), ("t3a", "has Desaturate")])
def test_other_sets_of_operations_are_refused_in_one_sentence(part, reason):
    with pytest.raises(ConfigError, match=rf"rand-m9-{part} {reason}, which .* student/transforms=paper"):
        parse_policy("student.transforms.train", f"rand-m9-{part}")
