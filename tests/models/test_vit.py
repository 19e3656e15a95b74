from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from timm.optim import create_optimizer_v2
from timm.task.token_distillation import TokenDistillationTask
from torch import nn
from torch.nn import functional as F

from deitlt.errors import ConfigError
from deitlt.losses import DistillationLoss
from deitlt.models import attend_by_products, check_local_size, compile_network, create_student

CONF = Path(__file__).parents[2] / "conf"
SMALL = {"image_size": 16, "patch_size": 4, "width": 32, "depth": 2, "heads": 2}


def student(distilled=True, num_classes=6, **changes):
    return create_student(num_classes, "deit_tiny_patch16_224", distilled=distilled, **{**SMALL, **changes})


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("distilled", [True, False])
def test_tokens_answer_apart_in_training_and_in_evaluation(distilled, training):
    network = student(distilled).train(training)
    cls, dist = network(torch.randn(3, 3, 16, 16))
    assert cls.shape == (3, 6)
    if distilled:
        assert dist.shape == (3, 6)
        assert not torch.allclose(cls, dist)
    else:
        assert dist is None
    assert network.tokens == (("cls", "dist") if distilled else ("cls",))


@pytest.mark.parametrize(
    ("name", "distilled"),
    [
        ("deit_tiny_patch16_224", True),
        ("deit_small_patch16_224", True),
        ("deit_tiny_distilled_patch16_224", True),
        ("vit_tiny_patch16_224", False),
        ("vit_base_patch32_clip_224", False),
        ("vit_medium_patch16_gap_240", False),  # pools patches, and has no class token
        ("vit_small_patch14_reg4_dinov2", False),  # has registers
        ("deit3_small_patch16_224", False),
    ],
)
def test_any_vision_transformer_of_timm(name, distilled):
    network = create_student(5, name, image_size=24, patch_size=8, distilled=distilled, width=64, depth=1).eval()
    answers = network(torch.randn(2, 3, 24, 24))
    assert answers.cls.shape == (2, 5)
    assert (answers.dist is not None) == distilled


@pytest.mark.parametrize(
    ("name", "rates", "scale"),
    [("deit3_small_patch16_224", [0.2, 0.2, 0.2], 1e-4), ("vit_tiny_patch16_224", [0.0, 0.1, 0.2], None)],
)
def test_deit3_drops_every_block_alike_and_others_the_last_one_most(name, rates, scale):
    blocks = create_student(6, name, **{**SMALL, "depth": 3}, distilled=False, drop_path=0.2).vit.blocks
    for part in ("drop_path1", "drop_path2"):
        assert [getattr(getattr(block, part), "drop_prob", 0.0) for block in blocks] == pytest.approx(rates)
    if scale is not None:
        assert all((ls.gamma == scale).all() for block in blocks for ls in (block.ls1, block.ls2))


@pytest.mark.parametrize(("image", "patch"), [(32, 4), (32, 8), (224, 16), (30, 5), (7, 7)])
def test_any_size_that_patches_tile(image, patch):
    network = student(image_size=image, patch_size=patch, depth=1)
    assert network.vit.patch_embed.num_patches == (image // patch) ** 2
    assert network(torch.randn(1, 3, image, image)).dist.shape == (1, 6)


@pytest.mark.parametrize(
    ("image", "patch", "distilled"), [(32, 4, True), (32, 8, False), (64, 16, True), (16, 2, True)]
)
def test_a_stem_of_convolutions_gives_a_token_for_each_patch(image, patch, distilled):
    network = student(distilled, image_size=image, patch_size=patch, depth=1, stem="conv")
    assert network.vit.patch_embed.num_patches == (image // patch) ** 2
    assert network.patch_size == student(image_size=image, patch_size=patch, depth=1).patch_size == (patch, patch)
    answers, attention = network.forward_with_attention(torch.randn(3, 3, image, image))
    assert answers.cls.shape == (3, 6)
    assert attention.shape == (3, (image // patch) ** 2)
    assert network(torch.randn(2, 3, image // 2, image // 2)).cls.shape == (2, 6)  # a local crop


def test_a_stems_tokens_see_beyond_their_patch_and_not_the_whole_image():
    stem = student(stem="conv").vit.patch_embed
    image = torch.randn(1, 3, 16, 16)
    moved = image.clone()
    moved[..., :4, :4] += 1  # the first patch
    changed = (stem(moved) - stem(image)).abs().sum(-1).flatten().reshape(4, 4) > 0
    assert changed[0, 0]
    assert changed[1, 1]
    assert not changed[3].any()
    assert not changed[:, 3].any()


def test_the_names_and_the_decay_of_a_student_stay_behind_a_stem():
    plain, stemmed = student(), student(stem="conv")
    others = [name for name in stemmed.state_dict() if "patch_embed" not in name]
    assert others == [name for name in plain.state_dict() if "patch_embed" not in name]
    assert stemmed.no_weight_decay() == plain.no_weight_decay()


@pytest.mark.parametrize(("patch", "instead"), [(12, 8), (1, 2), (6, 4)])
def test_a_stem_halves_the_image_and_has_no_other_patch(patch, instead):
    with pytest.raises(
        ConfigError, match=rf"patch_size={patch} .*type student\.model\.patch_size={instead}, or .*stem=p"
    ):
        student(image_size=24, patch_size=patch, stem="conv")


def test_the_mean_of_the_tokens_is_timms_answer_in_evaluation():
    network = student().eval()
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        answers = network(images)
        torch.testing.assert_close((answers.cls + answers.dist) / 2, network.vit(images))


@pytest.mark.parametrize(("kind", "tau"), [("hard", 1.0), ("soft", 3.0)])
def test_distillation_equals_timms_task(kind, tau):
    network, num_classes = student(drop_path=0.0).eval(), 6
    teacher = student(distilled=False, drop_path=0.0).vit.eval()
    images, targets = torch.randn(8, 3, 16, 16), torch.arange(8) % num_classes
    task = TokenDistillationTask(
        network.vit,
        teacher,
        nn.CrossEntropyLoss(),
        distill_type=kind,
        task_loss_weight=0.5,
        temperature=tau,
        verbose=False,
    )
    expected = task.train()(images, targets)
    ours = DistillationLoss(kind, alpha=0.5, tau=tau)(network.train()(images), targets, teacher(images))
    torch.testing.assert_close(ours.cls, 0.5 * expected["task_loss"])
    # The authors divide by B * C where timm divides by B.
    share = num_classes if kind == "soft" else 1
    torch.testing.assert_close(share * ours.dist, 0.5 * expected["distill_loss"])


@pytest.mark.parametrize("distilled", [True, False])
def test_optimizer_decays_matrices_and_nothing_else(distilled):
    network = student(distilled)
    optimizer = create_optimizer_v2(network, opt="adamw", lr=1e-3, weight_decay=0.05, filter_bias_and_bn=True)
    name_of = {id(p): name for name, p in network.named_parameters()}
    decay_of = {name_of[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    plain = {name for name, decay in decay_of.items() if decay == 0}
    decayed = {name for name, decay in decay_of.items() if decay == 0.05}
    whole = {"vit.cls_token", "vit.pos_embed"} | ({"vit.dist_token"} if distilled else set())
    assert plain == whole | {n for n in name_of.values() if n.endswith(".bias") or "norm" in n}
    assert decayed == set(name_of.values()) - plain
    assert all(network.get_parameter(name).ndim > 1 for name in decayed)
    assert whole <= network.no_weight_decay()


def test_muon_moves_the_blocks_matrices_and_adam_the_rest():
    network = student(stem="conv")
    muon = OmegaConf.load(CONF / "student" / "optimizer" / "muon.yaml")
    kept = {key: value for key, value in muon.items() if not key.startswith("_")}
    optimizer = create_optimizer_v2(network, **kept)
    names = {parameter: name for name, parameter in network.named_parameters()}
    by_muon = [
        names[p]
        for group in optimizer.param_groups
        for p in group["params"]
        if not group.get("use_fallback") and p.ndim > 1
    ]
    assert by_muon
    assert all(".blocks." in name for name in by_muon)
    assert {names[p] for group in optimizer.param_groups for p in group["params"]} == set(names.values())


def test_no_weight_decay_names_all_tokens_of_a_distilled_student():
    network = student()
    names = {name for name, _ in network.named_parameters()}
    assert network.no_weight_decay() & names == {"vit.cls_token", "vit.dist_token", "vit.pos_embed"}
    with_registers = create_student(5, "vit_small_patch14_reg4_dinov2", 28, 14, distilled=False, width=64, depth=1)
    names = {name for name, _ in with_registers.named_parameters() if "reg_token" in name}
    assert names == {"vit.reg_token"} & with_registers.no_weight_decay()


@pytest.mark.parametrize("patch", [0, 5, 32])
def test_patch_that_does_not_tile_the_image_is_named(patch):
    with pytest.raises(ConfigError, match=rf"patch_size={patch} does not divide.*16 pixels.*1, 2, 4, 8, 16"):
        student(patch_size=patch)


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 32, "heads": 3},
        {"width": 200, "heads": None},  # 200 // 64 = 3 heads do not divide it either
        {"width": None, "heads": 5},  # DeiT-Ti's own width is 192
    ],
)
def test_heads_that_do_not_divide_the_width_are_named(sizes):
    with pytest.raises(ConfigError, match=r"student\.model\.heads=\d .*does not divide"):
        student(**sizes)


def test_width_alone_takes_a_head_for_64():
    network = student(width=192, heads=None)
    assert network.vit.blocks[0].attn.num_heads == 3
    assert student(width=48, heads=None).vit.blocks[0].attn.num_heads == 1


@pytest.mark.parametrize(
    ("name", "distilled", "advice"),
    [
        ("deit_tini_patch16_224", True, "did you mean 'deit_tiny_patch16_224'"),
        ("deit_smal_patch16_224", False, "did you mean 'deit_small_patch16_224'"),
        ("vit_tiny_patch16_224", True, "with a distillation token"),
    ],
)
def test_unknown_name_is_named_with_the_nearest(name, distilled, advice):
    with pytest.raises(ConfigError, match=rf"student\.model\.name={name} .*{advice}"):
        student_named(name, distilled)


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224", "vit_base_r50_s16_224"])
@pytest.mark.parametrize("distilled", [True, False])
def test_a_model_that_is_no_plain_vision_transformer_is_refused(name, distilled):
    with pytest.raises(ConfigError, match=rf"student\.model\.name={name} is no vision transformer"):
        student_named(name, distilled)


def student_named(name, distilled):
    return create_student(5, name, 32, 16, distilled, depth=1)


@pytest.mark.parametrize("distilled", [True, False])
def test_the_class_tokens_attention_is_that_of_the_last_block(distilled):
    network = student(distilled).eval()
    images = torch.randn(2, 3, 16, 16)
    answers, attention = network.forward_with_attention(images)
    torch.testing.assert_close(answers.cls, network(images).cls)
    last = network.vit.blocks[-1].attn
    last.fused_attn = False
    weights = []
    last.attn_drop.register_forward_hook(lambda module, inputs, output: weights.append(output))
    network(images)
    patches = weights[0].mean(1)[:, 0, len(network.tokens) :]
    assert attention.shape == (2, 16)
    torch.testing.assert_close(attention, patches / patches.sum(1, keepdim=True))
    assert not attention.requires_grad
    last.fused_attn = True
    torch.compiler.reset()
    compile_network(network, backend=lambda graph, inputs: graph.forward)
    network(images)
    torch.testing.assert_close(network.forward_with_attention(images)[1], attention)
    torch.compiler.reset()


def test_local_crops_of_another_size_are_answered():
    network = student()
    assert network(torch.randn(2, 3, 8, 8)).cls.shape == (2, 6)
    with pytest.raises(AssertionError):
        network(torch.randn(2, 3, 10, 10))


def test_local_crops_that_patches_do_not_tile_are_refused():
    check_local_size(96, 16)
    with pytest.raises(ConfigError, match=r"local_size=90 cannot be cut into patches of 16 pixels; type .*=80"):
        check_local_size(90, 16)


IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TARGETS = F.one_hot(torch.arange(8) % 4, 4) * 0.9 + 0.025
DECISIONS = torch.tensor([3, 2, 1, 0, 0, 1, 2, 3])


def seeded(**options):
    torch.manual_seed(0)
    return student(num_classes=4, **{"depth": 3, "drop_path": 0.5, **options})


def step(network, precision=torch.float32):
    """Loss and gradients of one step with truth and teacher, weighted."""
    torch.manual_seed(1)
    loss = DistillationLoss("hard", class_weights=torch.tensor([0.2, 0.5, 1.0, 2.3]))
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        terms = loss(network(IMAGES), TARGETS, DECISIONS)
    terms.loss.backward()
    return terms.loss.detach(), {name: p.grad for name, p in network.named_parameters()}


def test_gradients_with_checkpointing_are_those_without():
    loss, gradients = step(seeded(checkpointing=True))
    expected_loss, expected = step(seeded())
    assert torch.equal(loss, expected_loss)
    assert gradients.keys() == expected.keys()
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)


def test_checkpointing_keeps_less():
    def kept(network):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            network(IMAGES)
        return sum(sizes)

    assert kept(seeded(checkpointing=True)) < 0.5 * kept(seeded())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_attention_by_products_is_that_of_the_fused_kernel(precision):
    fused, products = seeded(drop_path=0.0), seeded(drop_path=0.0)
    attend_by_products(products)
    (loss, found), (expected_loss, expected) = step(products, precision), step(fused, precision)
    tolerance = 1e-5 if precision == torch.float32 else 0.03
    torch.testing.assert_close(loss, expected_loss, rtol=tolerance, atol=0)
    found, expected = (torch.cat([g.flatten() for g in gradients.values()]) for gradients in (found, expected))
    assert (found - expected).norm() < tolerance * expected.norm()
    assert not torch.equal(found, expected)  # it was computed in another way
