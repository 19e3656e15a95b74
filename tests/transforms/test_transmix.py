import numpy as np
import pytest
import torch

from deitlt.transforms import Mixup, attention_targets
from deitlt.types import Pasted


def pasted(size=8):
    """The right half is the partner's."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[:, size // 2 :] = True
    return Pasted(mask, torch.eye(4)[[0, 1]], torch.eye(4)[[1, 0]])


def test_even_attention_gives_the_shares_of_the_area():
    targets = attention_targets(torch.full((2, 16), 1 / 16), pasted())
    torch.testing.assert_close(targets, torch.tensor([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]]))


def test_each_image_has_the_proportion_of_its_own_attention():
    attention = torch.zeros(2, 2, 2)
    attention[0, :, 0] = 0.5  # looks at its own half alone
    attention[1, 0] = torch.tensor([0.25, 0.75])
    targets = attention_targets(attention.flatten(1), pasted())
    torch.testing.assert_close(targets[0], torch.tensor([1.0, 0, 0, 0]))
    torch.testing.assert_close(targets[1], torch.tensor([0.75, 0.25, 0, 0]))


def test_the_mask_is_brought_to_the_patches_by_nearest_neighbour():
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[0, 0] = True  # of the first patch's 16 pixels, the one that stands for it
    content = Pasted(mask, torch.eye(2)[[0]], torch.eye(2)[[1]])
    targets = attention_targets(torch.tensor([[0.4, 0.3, 0.2, 0.1]]), content)
    torch.testing.assert_close(targets, torch.tensor([[0.6, 0.4]]))


@pytest.mark.parametrize(("options", "handed_on"), [({"mixup": 0.0}, True), ({"cutmix": 0.0}, False)])
def test_mixing_hands_on_where_cutmix_pasted_and_only_then(options, handed_on):
    images, targets = torch.rand(4, 3, 8, 8), torch.arange(4)
    for seed in range(5):
        stream = np.random.default_rng(seed)
        mixed = Mixup(4, smoothing=0.0, attention=True, **options)(images, targets, stream)
        assert (mixed.pasted is not None) == handed_on
        if mixed.pasted is not None:
            expected = torch.where(mixed.pasted.mask, images.flip(0), images)
            assert torch.equal(mixed.images, expected)
            share = mixed.pasted.mask.float().mean()
            blended = (1 - share) * mixed.pasted.own + share * mixed.pasted.partner
            torch.testing.assert_close(mixed.targets, blended)


def test_without_attention_nothing_is_handed_on():
    mixed = Mixup(4, mixup=0.0)(torch.rand(4, 3, 8, 8), torch.arange(4), np.random.default_rng(0))
    assert mixed.pasted is None
