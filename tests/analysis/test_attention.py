import copy
import math

import pytest
import torch

from deitlt.analysis import AttentionDistance, attention, attention_rollout, patch_distances
from deitlt.models import attend_by_products, create_student

LARGE = 1e4  # of a score: softmax then chooses one key alone
ROOT = math.sqrt(2)
TOKENS = {"cls": 0, "dist": 1}
IMAGES = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def measured(weights, grid, patch=(1, 1), tokens=None):
    """weights: [T, K] scores of one head with tokens first; queries are one-hot, so that scores are the keys."""
    rows = weights.shape[0]
    distance = AttentionDistance(grid, patch, tokens or {}, rows - grid[0] * grid[1])
    distance.update(0, torch.eye(rows)[None, None], weights.T[None, None].contiguous())
    return {name: blocks[0][0] for name, blocks in distance.as_plain().items() if name != "unit"}


def test_distances_of_uniform_attention_by_hand():
    # Two by two: from each patch itself 0, two neighbours 1, one across the diagonal.
    assert measured(torch.zeros(4, 4), (2, 2))["patches"] == pytest.approx((2 + ROOT) / 4)
    corner, edge = 2 * 1 + 2 * 2 + ROOT + 2 * math.sqrt(5) + 2 * ROOT, 3 * 1 + 2 * ROOT + 2 + 2 * math.sqrt(5)
    expected = (4 * corner + 4 * edge + 4 * 1 + 4 * ROOT) / 81
    assert measured(torch.zeros(9, 9), (3, 3))["patches"] == pytest.approx(expected)


def test_distances_of_attention_to_one_patch_by_hand():
    assert measured(LARGE * torch.eye(9), (3, 3))["patches"] == 0
    scores = torch.zeros(9, 9)
    scores[:, 8] = LARGE
    to_corner = 2 * ROOT + 2 * math.sqrt(5) + 2 * 2 + ROOT + 2 * 1  # of corner, edges, corners, middle, edges
    assert measured(scores, (3, 3))["patches"] == pytest.approx(to_corner / 9)


def test_distances_are_in_pixels_on_grids_and_patches_of_any_sides():
    distances = patch_distances((2, 3), (10, 4))
    assert distances[0].tolist() == pytest.approx([0, 4, 8, 10, math.hypot(10, 4), math.hypot(10, 8)])
    assert torch.equal(distances, distances.T)
    assert not patch_distances((14, 14), (16, 16)).diagonal().any()
    fine, coarse = (measured(torch.zeros(4, 4), (2, 2), (side, side))["patches"] for side in (1, 16))
    assert coarse == pytest.approx(16 * fine)


def test_a_tokens_distance_is_that_of_two_draws_from_its_attention():
    even = measured(torch.zeros(11, 11), (3, 3), tokens=TOKENS)
    assert even["cls"] == even["dist"] == pytest.approx(even["patches"])
    scores = torch.zeros(6, 6)
    scores[0, 2:] = torch.tensor([LARGE, 0, 0, LARGE])  # CLS: two opposite corners, half each
    scores[1, 2:] = torch.tensor([LARGE, 0, 0, 0])  # DIST: one patch
    found = measured(scores, (2, 2), tokens=TOKENS)
    assert found["cls"] == pytest.approx(ROOT / 2)
    assert found["dist"] == 0


def test_attention_to_tokens_is_left_out():
    scores = torch.randn(6, 6)
    among_patches = measured(scores[2:, 2:], (2, 2))["patches"]
    scores[:, :2] = 50.0
    assert measured(scores, (2, 2), tokens=TOKENS)["patches"] == pytest.approx(among_patches)


def test_heads_blocks_and_images_are_apart(monkeypatch):
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 5, 3, 10, 4).unbind(0)  # 5 images, 3 heads, 1 token and 9 patches
    scores = torch.einsum("bhqd,bhkd->bhqk", queries[:, :, 1:], keys[:, :, 1:])
    expected = (scores.softmax(dim=-1) * patch_distances((3, 3), (4, 4))).sum(dim=-1).mean(dim=(0, 2))
    whole, split = (AttentionDistance((3, 3), (4, 4), {"cls": 0}, 1) for _ in range(2))
    assert whole.as_plain() == {}
    for block in range(2):
        whole.update(block, queries, keys)
    monkeypatch.setattr(attention, "_WEIGHTS_AT_ONCE_CPU", 1)  # image by image
    for rows in (slice(0, 2), slice(2, 5)):
        for block in range(2):
            split.update(block, queries[rows], keys[rows])
    found = whole.as_plain()
    assert found["patches"][1] == pytest.approx(expected.tolist(), rel=1e-5)
    for name in ("cls", "patches"):
        torch.testing.assert_close(torch.tensor(split.as_plain()[name]), torch.tensor(found[name]))


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
        torch.testing.assert_close(found[token], expected.reshape(3, 4, 6))


@pytest.mark.parametrize(("name", "tokens"), [("vit_tiny_patch16_224", ["cls"]), ("vit_medium_patch16_gap_240", [])])
def test_a_rollout_has_only_the_tokens_that_there_are(name, tokens):
    network = student(False, name).train()
    assert list(attention_rollout(network, IMAGES)) == tokens
    assert network.training
