import copy
import gc
import json
import math

import pytest
import torch
from torch import nn

from deitlt.analysis import analyse, patch_distances
from deitlt.errors import ConfigError
from deitlt.metrics import GroupedCalibration
from deitlt.models import (
    as_logits,
    attend_by_products,
    compile_network,
    create_paco_teacher,
    create_student,
    create_teacher,
)
from deitlt.types import IGNORED

SIZES = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 3, "heads": 2}
IMAGES = torch.randn(10, 3, 16, 16, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(10) % 3  # the last class has no image
BATCH = [(IMAGES, LABELS)]


def student(distilled=True, name="deit_tiny_patch16_224", **changes):
    torch.manual_seed(0)
    network = create_student(4, name, distilled=distilled, **{**SIZES, **changes})
    with torch.no_grad():
        for parameter in network.parameters():  # fresh weights attend almost evenly
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def assert_alike(first, second):
    """Two results as numbers, equal but for rounding."""
    flat = [torch.tensor(_numbers(result), dtype=torch.float64) for result in (first, second)]
    torch.testing.assert_close(*flat, rtol=1e-5, atol=1e-5)


def _numbers(value):
    if isinstance(value, dict):
        return [n for key in value for n in _numbers(value[key])]
    if isinstance(value, list):
        return [n for item in value for n in _numbers(item)]
    return [] if isinstance(value, str) else [value]


@pytest.mark.parametrize("qk_norm", [False, True])
def test_attention_distances_are_those_of_timms_own_attention(info, qk_norm):
    network, maps, distances = student(), [], patch_distances((4, 4), (4, 4))
    for block in network.vit.blocks if qk_norm else ():
        block.attn.q_norm, block.attn.k_norm = nn.LayerNorm(8), nn.LayerNorm(8)
    unfused = copy.deepcopy(network).eval()
    attend_by_products(unfused)
    for block in unfused.vit.blocks:
        block.attn.attn_drop.register_forward_hook(lambda _, __, weights: maps.append(weights))
    with torch.no_grad():
        unfused(IMAGES)
    found = analyse(network, BATCH, info, parts=["attention"])["attention_distance"]
    for block, weights in enumerate(maps):
        among = weights[:, :, :, 2:] / weights[:, :, :, 2:].sum(dim=-1, keepdim=True)
        expected = (among[:, :, 2:] * distances).sum(dim=-1).mean(dim=(0, 2))
        torch.testing.assert_close(torch.tensor(found["patches"][block]), expected)
        for row, token in enumerate(network.tokens):
            spread = torch.einsum("bhp,bhq,pq->bh", among[:, :, row], among[:, :, row], distances).mean(dim=0)
            torch.testing.assert_close(torch.tensor(found[token][block]), spread)


def test_diversity_winners_and_calibration_are_those_of_the_networks_logits(info):
    network = student().eval()
    found = analyse(network, BATCH, info)
    with torch.no_grad():
        features, logits = network.vit.forward_features(IMAGES), network(IMAGES)
    distance = 1 - nn.functional.cosine_similarity(features[:, 0], features[:, 1])
    assert found["diversity"]["cosine_distance"]["all"] == pytest.approx(float(distance.mean()), rel=1e-5)
    assert found["diversity"]["cosine_distance"]["head"] == pytest.approx(float(distance[LABELS == 0].mean()), rel=1e-5)
    apart = (logits.cls.argmax(1) != logits.dist.argmax(1)).double().mean()
    assert found["diversity"]["disagreement"]["all"] == pytest.approx(100 * float(apart))
    for row in found["winners"]["classes"]:
        own = row["class"] == LABELS
        assert row["cls"] == pytest.approx(100 * float((logits.cls[own].argmax(1) == row["class"]).double().mean()))
    assert [row["class"] for row in found["winners"]["classes"]] == [0, 1, 2]
    calibration = GroupedCalibration(4, info.groups)
    calibration.update(logits.dist, LABELS)
    assert found["calibration"]["dist"] == pytest.approx({k: float(v) for k, v in calibration.compute().items()})


def test_ranks_are_those_of_the_blocks_outputs(info):
    network = student().eval()
    found = analyse(network, BATCH, info, parts=["rank"])["rank"]
    options = {"output_fmt": "NLC", "intermediates_only": True, "return_prefix_tokens": True}
    with torch.no_grad():
        blocks = network.vit.forward_intermediates(IMAGES, **options)
    for block, (_, prefix) in enumerate(blocks):
        for row, token in enumerate(("cls", "dist")):
            assert found[token]["components"][block] == components(prefix[:, row])
    assert found["width"] == 16


def components(features):
    shares = torch.linalg.eigvalsh(features.double().T.cov()).clamp(min=0).flip(0)
    return int((shares.cumsum(0) / shares.sum() < 0.99).sum()) + 1


def test_batches_ignored_images_and_products_do_not_matter(info):
    network = student()
    whole = analyse(network, BATCH, info)
    filled = torch.cat([IMAGES[6:], torch.full((2, 3, 16, 16), 9.0)])
    labels = torch.cat([LABELS[6:], torch.tensor([IGNORED, IGNORED])])
    nobody = (IMAGES[:1], torch.tensor([IGNORED]))
    assert_alike(whole, analyse(network, [(IMAGES[:6], LABELS[:6]), (filled, labels), nobody], info))
    attend_by_products(network)
    assert_alike(whole, analyse(network, BATCH, info))


def test_a_compiled_network_is_seen_as_an_eager_one(info):
    network, graphs = student(), []
    expected = analyse(network, BATCH, info)
    compile_network(network, backend=lambda graph, _: graphs.append(graph) or graph.forward)
    with torch.no_grad():
        network.eval()(IMAGES)
    assert_alike(expected, analyse(network, BATCH, info))
    assert len(graphs) == 1


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_network_is_left_as_it_was(info, checkpointing):
    network = student(drop_path=0.5, checkpointing=checkpointing).train()
    network.vit.norm.eval()
    weights, modes = copy.deepcopy(network.state_dict()), [part.training for part in network.modules()]
    state = torch.get_rng_state()
    first, second = (analyse(network, BATCH, info) for _ in range(2))
    assert first == second  # no block is dropped
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
    network(IMAGES).cls.sum().backward()


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("deit_tiny_patch16_224", {"cls"}),
        ("vit_medium_patch16_gap_240", set()),
        ("vit_small_patch14_reg4_dinov2", {"cls"}),
    ],
)
def test_without_dist_with_registers_and_with_pooling_there_are_fewer_parts(info, name, tokens):
    found = analyse(student(False, name), BATCH, info)
    assert not {"diversity", "winners"} & set(found)
    assert set(found["attention_distance"]) - {"unit", "patches"} == tokens
    assert set(found.get("rank", {})) - {"width"} == tokens
    assert set(found["calibration"]) == {"cls"}


def test_one_image_has_rank_0_and_none_finds_nothing(info):
    found = analyse(student(), [(IMAGES[:1], LABELS[:1])], info)
    assert found["rank"]["dist"] == {"components": [0, 0, 0], "effective": [0.0, 0.0, 0.0]}
    assert set(found["diversity"]["disagreement"]) == {"all", "head"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert analyse(student(), [], info, parts=["attention", "rank", "diversity", "winners"]) == {}


def test_only_the_parts_that_were_asked_for(info):
    assert set(analyse(student(), BATCH, info, parts=["winners", "rank"])) == {"rank", "winners"}
    with pytest.raises(ConfigError, match=r"parts=\[winers\] .*did you mean 'winners'"):
        analyse(student(), BATCH, info, parts=["winers"])


def test_logits_are_put_into_the_order_of_the_data(info):
    network, order = student(), torch.tensor([2, 0, 3, 1])
    found = analyse(network, BATCH, info, class_order=order)
    with torch.no_grad():
        own = network.eval()(IMAGES)
    right = (own.cls[:, order].argmax(1) == LABELS)[LABELS == 1].double().mean()
    assert found["winners"]["classes"][1]["cls"] == pytest.approx(100 * float(right))
    assert torch.equal(as_logits(own.cls, order, 2.0).cls, 2 * own.cls[:, order])
    assert torch.equal(as_logits(own, order, 2.0).dist, own.dist[:, order])  # a scale is a teacher's


def test_decisions_of_a_broken_token_are_nan_and_its_features_are_not(info):
    network = student()
    nn.init.constant_(network.vit.head_dist.bias, torch.nan)
    found = analyse(network, BATCH, info)
    assert math.isnan(found["winners"])
    assert math.isnan(found["diversity"]["disagreement"])
    assert [math.isnan(found["calibration"][token]) for token in ("dist", "avg")] == [True, True]
    assert not any(math.isnan(n) for n in _numbers([found["calibration"]["cls"], found["rank"]]))


def test_blocks_without_plain_attention_are_named(info):
    network = student(False, "vit_small_patch16_18x2_224")  # two attentions beside each other in a block
    with pytest.raises(ConfigError, match=r"cannot be watched.*the parts, such as \[rank,diversity,winners\]"):
        analyse(network, BATCH, info)
    assert not any(part._forward_hooks for part in network.modules())
    assert len(analyse(network, BATCH, info, parts=["rank"])["rank"]["cls"]["components"]) == 3


def held_bytes():
    gc.collect()
    return sum(thing.untyped_storage().nbytes() for thing in gc.get_objects() if type(thing) is torch.Tensor)


def test_what_is_kept_does_not_grow_with_the_images(info):
    held = []

    def batches():
        for _ in range(4):
            yield IMAGES, LABELS
            held.append(held_bytes())

    analyse(student(), batches(), info)
    assert held[1] == held[2] == held[3]


FEATURES = {"cifar_resnet8": 64, "resnet18": 512, "mobilenetv3_small_050": 1024}


@pytest.mark.parametrize("name", FEATURES)
def test_a_teachers_rank_is_that_of_what_its_classifier_reads(info, name):
    torch.manual_seed(0)
    network, images = create_teacher(4, name).train(), torch.randn(12, 3, 32, 32)
    statistics = copy.deepcopy(network.state_dict())
    found = analyse(network, [(images, torch.arange(12) % 4)], info)
    assert network.training
    assert all(torch.equal(value, statistics[key]) for key, value in network.state_dict().items())
    with torch.no_grad():
        network.eval()
        features = network.forward_features(images)
        features = network.forward_head(features, pre_logits=True) if hasattr(network, "forward_head") else features
    assert found["rank"]["width"] == FEATURES[name]
    assert found["rank"]["features"]["components"] == components(features)
    assert set(found) == {"rank", "calibration"}


def test_a_paco_teachers_features_are_the_query_encoders(info):
    torch.manual_seed(0)
    network, images = create_paco_teacher(4, "cifar_resnet8").eval(), torch.randn(12, 3, 32, 32)
    found = analyse(network, [(images, torch.arange(12) % 4)], info, parts=["rank"])
    with torch.no_grad():
        assert found["rank"]["features"]["components"] == components(network.encoder_q.backbone(images))
