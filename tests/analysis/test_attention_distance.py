import math

import pytest
import torch

from deitlt.analysis import AttentionDistance, attention_distance, patch_distances

LARGE = 1e4  # of a score: softmax then chooses one key alone
ROOT = math.sqrt(2)


def measured(weights, grid, patch=(1, 1), tokens=None):
    """weights: [T, K] scores of one head with tokens first; queries are one-hot, so that scores are the keys."""
    rows = weights.shape[0]
    distance = AttentionDistance(grid, patch, tokens or {}, rows - grid[0] * grid[1])
    distance.update(0, torch.eye(rows)[None, None], weights.T[None, None].contiguous())
    return {name: blocks[0][0] for name, blocks in distance.as_plain().items() if name != "unit"}


def test_uniform_attention_on_two_by_two():
    # From each patch: itself 0, two neighbours 1, one across the diagonal.
    assert measured(torch.zeros(4, 4), (2, 2))["patches"] == pytest.approx((2 + ROOT) / 4)


def test_uniform_attention_on_three_by_three():
    corner = 2 * 1 + 2 * 2 + ROOT + 2 * math.sqrt(5) + 2 * ROOT
    edge = 3 * 1 + 2 * ROOT + 2 + 2 * math.sqrt(5)
    middle = 4 * 1 + 4 * ROOT
    expected = (4 * corner + 4 * edge + middle) / 81
    assert measured(torch.zeros(9, 9), (3, 3))["patches"] == pytest.approx(expected)


def test_a_patch_that_looks_at_itself_looks_no_way():
    assert measured(LARGE * torch.eye(9), (3, 3))["patches"] == 0


def test_all_patches_look_at_one_far_corner():
    scores = torch.zeros(9, 9)
    scores[:, 8] = LARGE
    to_corner = 2 * ROOT + 2 * math.sqrt(5) + 2 * 2 + ROOT + 2 * 1  # of corner, edges, corners, middle, edges
    assert measured(scores, (3, 3))["patches"] == pytest.approx(to_corner / 9)


def test_distances_are_in_pixels_on_grids_and_patches_of_any_sides():
    distances = patch_distances((2, 3), (10, 4))
    assert distances.shape == (6, 6)
    assert distances[0].tolist() == pytest.approx([0, 4, 8, 10, math.hypot(10, 4), math.hypot(10, 8)])
    assert torch.equal(distances, distances.T)
    assert not patch_distances((14, 14), (16, 16)).diagonal().any()
    fine, coarse = (measured(torch.zeros(4, 4), (2, 2), (side, side))["patches"] for side in (1, 16))
    assert coarse == pytest.approx(16 * fine)


def test_a_token_with_uniform_attention_has_the_value_of_uniform_patches():
    found = measured(torch.zeros(11, 11), (3, 3), tokens={"cls": 0, "dist": 1})
    assert found["cls"] == found["dist"] == pytest.approx(found["patches"])


def test_a_tokens_distance_is_that_of_two_draws_from_its_attention():
    scores = torch.zeros(6, 6)
    scores[0, 2:] = torch.tensor([LARGE, 0, 0, LARGE])  # CLS: two opposite corners, half each
    scores[1, 2:] = torch.tensor([LARGE, 0, 0, 0])  # DIST: one patch
    found = measured(scores, (2, 2), tokens={"cls": 0, "dist": 1})
    assert found["cls"] == pytest.approx(ROOT / 2)
    assert found["dist"] == 0


def test_attention_to_tokens_is_left_out():
    scores = torch.randn(6, 6)
    among_patches = measured(scores[2:, 2:], (2, 2))["patches"]
    scores[:, :2] = 50.0
    assert measured(scores, (2, 2), tokens={"cls": 0, "dist": 1})["patches"] == pytest.approx(among_patches)


def test_heads_blocks_and_images_are_apart(monkeypatch):
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 5, 3, 10, 4).unbind(0)  # 5 images, 3 heads, 1 token and 9 patches
    distances = patch_distances((3, 3), (4, 4))

    def expected(head):
        scores = torch.einsum("bqd,bkd->bqk", queries[:, head, 1:], keys[:, head, 1:])
        return float((scores.softmax(dim=-1) * distances).sum(dim=-1).mean())

    whole, split = (AttentionDistance((3, 3), (4, 4), {"cls": 0}, 1) for _ in range(2))
    for block in range(2):
        whole.update(block, queries, keys)
    monkeypatch.setattr(attention_distance, "_WEIGHTS_AT_ONCE_CPU", 1)  # image by image
    for rows in (slice(0, 2), slice(2, 5)):
        for block in range(2):
            split.update(block, queries[rows], keys[rows])
    found = whole.as_plain()
    assert found["unit"] == "pixels"
    assert found["patches"][1] == pytest.approx([expected(head) for head in range(3)], rel=1e-5)
    for name in ("cls", "patches"):
        torch.testing.assert_close(torch.tensor(split.as_plain()[name]), torch.tensor(found[name]))


def test_nothing_is_said_before_an_image():
    assert AttentionDistance((2, 2), (1, 1), {}, 0).as_plain() == {}
