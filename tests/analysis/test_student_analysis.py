import copy
import gc
import json

import pytest
import torch
from torch import nn

from deitlt.analysis import analyse_student, patch_distances
from deitlt.errors import ConfigError
from deitlt.models import attend_by_products, compile_network, create_student
from deitlt.types import IGNORED

SIZES = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 3, "heads": 2}
IMAGES = torch.randn(10, 3, 16, 16, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(10) % 3  # the last class has no image


def student(distilled=True, name="deit_tiny_patch16_224", **changes):
    torch.manual_seed(0)
    network = create_student(4, name, distilled=distilled, **{**SIZES, **changes})
    with torch.no_grad():
        for parameter in network.parameters():  # fresh weights attend almost evenly
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def kept_attention(network, images):
    """Attention of each block, [B, H, T, T], from timm's own unfused path."""
    network, maps = copy.deepcopy(network).eval(), []
    attend_by_products(network)
    for block in network.vit.blocks:
        block.attn.attn_drop.register_forward_hook(lambda _, __, weights: maps.append(weights))
    with torch.no_grad():
        network(images)
    return maps


def compared(first, second):
    """Two results as numbers, equal but for rounding."""
    flat = [torch.tensor(_numbers(result), dtype=torch.float64) for result in (first, second)]
    torch.testing.assert_close(*flat, rtol=1e-5, atol=1e-5)


def _numbers(value):
    if isinstance(value, dict):
        return [n for key in value for n in _numbers(value[key])]
    if isinstance(value, list):
        return [n for item in value for n in _numbers(item)]
    return [] if isinstance(value, str) else [value]


@pytest.mark.parametrize("changes", [{}, {"distilled": False}, {"qk_norm": True}])
def test_patches_distances_are_those_of_timms_own_attention(info, changes):
    qk_norm = changes.pop("qk_norm", False)
    network = student(**changes)
    if qk_norm:
        for block in network.vit.blocks:
            block.attn.q_norm, block.attn.k_norm = nn.LayerNorm(8), nn.LayerNorm(8)
    prefix, distances = len(network.tokens), patch_distances((4, 4), (4, 4))
    found = analyse_student(network, [(IMAGES, LABELS)], info, parts=["attention"]).attention_distance
    for block, weights in enumerate(kept_attention(network, IMAGES)):
        among = weights[:, :, :, prefix:] / weights[:, :, :, prefix:].sum(dim=-1, keepdim=True)
        expected = (among[:, :, prefix:] * distances).sum(dim=-1).mean(dim=(0, 2))
        torch.testing.assert_close(torch.tensor(found["patches"][block]), expected)
        for row, token in enumerate(network.tokens):
            spread = torch.einsum("bhp,bhq,pq->bh", among[:, :, row], among[:, :, row], distances).mean(dim=0)
            torch.testing.assert_close(torch.tensor(found[token][block]), spread)


def test_diversity_and_winners_are_the_networks_own(info):
    network = student().eval()
    found = analyse_student(network, [(IMAGES, LABELS)], info)
    with torch.no_grad():
        features, answers = network.vit.forward_features(IMAGES), network(IMAGES)
    distance = 1 - nn.functional.cosine_similarity(features[:, 0], features[:, 1])
    assert found.diversity["cosine_distance"]["all"] == pytest.approx(float(distance.mean()), rel=1e-5)
    assert found.diversity["cosine_distance"]["head"] == pytest.approx(float(distance[LABELS == 0].mean()), rel=1e-5)
    apart = (answers.cls.argmax(1) != answers.dist.argmax(1)).double().mean()
    assert found.diversity["disagreement"]["all"] == pytest.approx(100 * float(apart))
    for row in found.winners["classes"]:
        own = row["class"] == LABELS
        assert row["cls"] == pytest.approx(100 * float((answers.cls[own].argmax(1) == row["class"]).double().mean()))
    assert [row["class"] for row in found.winners["classes"]] == [0, 1, 2]


def test_ranks_are_those_of_the_blocks_outputs(info):
    network = student().eval()
    found = analyse_student(network, [(IMAGES, LABELS)], info).rank
    with torch.no_grad():
        blocks = network.vit.forward_intermediates(
            IMAGES, output_fmt="NLC", intermediates_only=True, return_prefix_tokens=True
        )
    for block, (_, prefix) in enumerate(blocks):
        for row, token in enumerate(("cls", "dist")):
            shares = torch.linalg.eigvalsh(prefix[:, row].double().T.cov()).clamp(min=0).flip(0)
            held = shares.cumsum(0) / shares.sum()
            assert found[token]["components"][block] == int((held < 0.99).sum()) + 1
    assert found["width"] == 16


def test_batches_ignored_images_and_products_do_not_matter(info):
    network = student()
    whole = analyse_student(network, [(IMAGES, LABELS)], info)
    filled = torch.cat([IMAGES[6:], torch.full((2, 3, 16, 16), 9.0)])
    labels = torch.cat([LABELS[6:], torch.tensor([IGNORED, IGNORED])])
    nobody = (IMAGES[:1], torch.tensor([IGNORED]))
    split = analyse_student(network, [(IMAGES[:6], LABELS[:6]), (filled, labels), nobody], info)
    assert split.images == whole.images == 10
    compared(whole.as_plain(), split.as_plain())
    attend_by_products(network)
    compared(whole.as_plain(), analyse_student(network, [(IMAGES, LABELS)], info).as_plain())


def test_a_compiled_network_is_seen_as_an_eager_one(info):
    network, graphs = student(), []
    expected = analyse_student(network, [(IMAGES, LABELS)], info).as_plain()
    compile_network(network, backend=lambda graph, _: graphs.append(graph) or graph.forward)
    with torch.no_grad():
        network.eval()(IMAGES)
    assert len(graphs) == 1
    compared(expected, analyse_student(network, [(IMAGES, LABELS)], info).as_plain())
    assert len(graphs) == 1


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_network_is_left_as_it_was(info, checkpointing):
    network = student(drop_path=0.5, checkpointing=checkpointing).train()
    network.vit.norm.eval()
    weights, modes = copy.deepcopy(network.state_dict()), [part.training for part in network.modules()]
    stream = torch.get_rng_state()
    first, second = (analyse_student(network, [(IMAGES, LABELS)], info).as_plain() for _ in range(2))
    assert first == second  # no dropping of blocks
    assert torch.equal(torch.get_rng_state(), stream)
    assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
    assert all(block.attn.fused_attn for block in network.vit.blocks)
    network(IMAGES).cls.sum().backward()


def test_a_student_without_dist_has_the_parts_of_cls(info):
    found = analyse_student(student(distilled=False), [(IMAGES, LABELS)], info).as_plain()
    assert set(found) == {"attention_distance", "rank"}
    assert set(found["attention_distance"]) == {"unit", "cls", "patches"}
    assert set(found["rank"]) == {"width", "cls"}


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("vit_medium_patch16_gap_240", set()),
        ("vit_small_patch14_reg4_dinov2", {"cls"}),
        ("vit_tiny_patch16_224", {"cls"}),
    ],
)
def test_other_transformers_with_pooling_and_registers(info, name, tokens):
    found = analyse_student(student(False, name), [(IMAGES, LABELS)], info).as_plain()
    assert set(found["attention_distance"]) - {"unit", "patches"} == tokens
    assert set(found.get("rank", {})) - {"width"} == tokens


def test_one_image_has_rank_0_and_the_rest_is_measured(info):
    found = analyse_student(student(), [(IMAGES[:1], LABELS[:1])], info).as_plain()
    assert found["rank"]["dist"] == {"components": [0, 0, 0], "effective": [0.0, 0.0, 0.0]}
    assert set(found["diversity"]["disagreement"]) == {"all", "head"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_images_nothing_is_found(info):
    found = analyse_student(student(), [], info)
    assert (found.images, found.as_plain()) == (0, {})


def test_only_the_parts_that_were_asked_for(info):
    found = analyse_student(student(), [(IMAGES, LABELS)], info, parts=["winners", "rank"])
    assert set(found.as_plain()) == {"rank", "winners"}
    with pytest.raises(ConfigError, match=r"parts=\[winers\] .*did you mean 'winners'"):
        analyse_student(student(), [(IMAGES, LABELS)], info, parts=["winers"])


def test_answers_are_put_into_the_order_of_the_data(info):
    network, order = student(), torch.tensor([2, 0, 3, 1])
    seen = []
    found = analyse_student(
        network, [(IMAGES, LABELS)], info, class_order=order, on_logits=lambda *given: seen.append(given)
    )
    ((answers, labels),) = seen
    assert torch.equal(labels, LABELS)
    with torch.no_grad():
        own = network.eval()(IMAGES)
    torch.testing.assert_close(answers.dist, own.dist[:, order])
    torch.testing.assert_close(answers.cls, own.cls[:, order])
    right = (own.cls[:, order].argmax(1) == LABELS)[LABELS == 1].double().mean()
    assert found.winners["classes"][1]["cls"] == pytest.approx(100 * float(right))


def test_local_crops_size_and_bfloat16(info):
    network = student()
    small = analyse_student(network, [(IMAGES[..., :8, :8], LABELS)], info).attention_distance
    assert max(max(heads) for heads in small["patches"]) < 8
    exact, low = (
        analyse_student(network, [(IMAGES, LABELS)], info, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    for a, b in zip(exact.attention_distance["patches"], low.attention_distance["patches"], strict=True):
        assert a == pytest.approx(b, rel=0.05)
    assert exact != low


def test_blocks_without_plain_attention_are_named(info):
    network = student(False, "vit_small_patch16_18x2_224")  # two attentions beside each other in a block
    with pytest.raises(ConfigError, match=r"cannot be watched.*the parts, such as \[rank,diversity,winners\]"):
        analyse_student(network, [(IMAGES, LABELS)], info)
    assert not any(part._forward_hooks for part in network.modules())
    assert len(analyse_student(network, [(IMAGES, LABELS)], info, parts=["rank"]).rank["cls"]["components"]) == 3


def held_bytes():
    gc.collect()
    return sum(thing.untyped_storage().nbytes() for thing in gc.get_objects() if type(thing) is torch.Tensor)


def test_what_is_kept_does_not_grow_with_the_images(info):
    held = []

    def batches():
        for _ in range(4):
            yield IMAGES, LABELS
            held.append(held_bytes())

    analyse_student(student(), batches(), info)
    assert held[1] == held[2] == held[3]
