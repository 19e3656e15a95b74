import copy

import pytest
import torch

from deitlt.analysis import attention_rollout
from deitlt.models import attend_by_products, create_student

IMAGES = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def student(distilled=True, name="deit_tiny_patch16_224", depth=3):
    torch.manual_seed(0)
    sizes = {"image_size": 16, "patch_size": 4, "width": 16, "depth": depth, "heads": 2}
    network = create_student(4, name, distilled=distilled, **sizes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def test_rollout_is_the_product_of_the_blocks():
    network = student()
    plain, product = copy.deepcopy(network).eval(), None
    attend_by_products(plain)
    maps = []
    for block in plain.vit.blocks:
        block.attn.attn_drop.register_forward_hook(lambda _, __, weights: maps.append(weights.mean(1)))
    with torch.no_grad():
        plain(IMAGES)
    for weights in maps:
        layer = weights + torch.eye(26)
        layer = layer / layer.sum(dim=-1, keepdim=True)
        product = layer if product is None else layer @ product
    found = attention_rollout(network, IMAGES)
    for row, token in enumerate(("cls", "dist")):
        expected = product[:, row, 2:] / product[:, row, 2:].sum(dim=1, keepdim=True)
        assert found[token].shape == (3, 4, 6)
        torch.testing.assert_close(found[token].flatten(1), expected)
        torch.testing.assert_close(found[token].sum(dim=(1, 2)), torch.ones(3))


def test_one_block_that_attends_evenly_gives_an_even_picture():
    network = student(depth=1)
    torch.nn.init.zeros_(network.vit.blocks[0].attn.qkv.weight)
    torch.nn.init.zeros_(network.vit.blocks[0].attn.qkv.bias)
    for picture in attention_rollout(network, IMAGES).values():
        torch.testing.assert_close(picture, torch.full((3, 4, 6), 1 / 24))


@pytest.mark.parametrize(("name", "tokens"), [("vit_tiny_patch16_224", ["cls"]), ("vit_medium_patch16_gap_240", [])])
def test_only_the_tokens_that_there_are(name, tokens):
    network = student(False, name).train()
    assert list(attention_rollout(network, IMAGES)) == tokens
    assert network.training
