import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn

from deitlt.benchmarks.bare_loop import BareLoop
from deitlt.benchmarks.machine import matrix_peak
from deitlt.benchmarks.timm_loop import TimmLoop, has_timm_loop
from deitlt.benchmarks.training import RoundTimer, step_operations
from deitlt.models import count_operations

PACO = (
    *("experiment=digits_paco", "data.num_workers=0", "data.max_count=20", "data.imbalance_factor=0.1"),
    *("teacher.images_per_update=16", "teacher.batch_size=8", "teacher.model.queue_size=64"),
)
CASES = {
    "a teacher with SAM, clipped": ("sam_teacher", "teacher.gradient_clip=0.5"),
    "a student who accumulates": ("student", "student.batch_size=8", "student.model.drop_path=0.5"),
    "a student with SAM who accumulates": ("sam_student", "student.batch_size=8", "student.model.depth=2"),
    "a student with an average": ("student", "student.ema.decay=0.9"),
}


def _train_by_lightning(bench):
    """Two rounds, of which the first is the warm-up."""
    bench.trainer.callbacks.append(RoundTimer(bench.round_epochs, bench.device, lambda turn: None))
    bench.trainer.fit(bench.module, datamodule=bench.datamodule)


def assert_same_training(by_lightning, by_hand):
    """Train one by Lightning, the other in a bare loop: weights, statistics, averages and losses end alike."""
    before = [value.clone() for value in by_hand.module.network.state_dict().values()]
    loop = BareLoop(by_hand)
    loop.train()
    loop.train()
    _train_by_lightning(by_lightning)
    for name, network in by_hand.module.evaluated.items():
        theirs = by_lightning.module.evaluated[name].state_dict()
        for key, value in network.state_dict().items():
            # the gradient of a bias of the keys is nothing but rounding, of which Adam makes whole steps
            assert torch.allclose(value.float(), theirs[key].float(), rtol=1e-5, atol=1e-6), (name, key)
    after = by_hand.module.network.state_dict().values()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    loss = by_lightning.trainer.callback_metrics["train/loss"]
    assert loop.logged[-1]["loss"] == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_the_bare_loop_does_the_same_work(open_tiny, case):
    name, *words = CASES[case]
    assert_same_training(*(open_tiny(name, *words, batches=7) for _ in range(2)))


def test_the_bare_loop_does_paco_s_work(open_tiny):
    assert_same_training(*(open_tiny("sam_teacher", batches=7, recipe=PACO) for _ in range(2)))


def test_feeding_alone_leaves_the_weights(open_tiny):
    loop = BareLoop(open_tiny("student"))
    before = [parameter.clone() for parameter in loop.module.parameters()]
    loop.feed()
    assert all(torch.equal(a, b) for a, b in zip(before, loop.module.parameters(), strict=True))
    assert loop.held.images.shape == (16, 3, 16, 16)


def test_steps_on_a_held_batch_make_updates(open_tiny):
    loop = BareLoop(open_tiny("student", "student.batch_size=8", batches=4))
    loop.train_on_held()
    assert loop.updates == 2


@pytest.mark.parametrize("name", ["teacher", "student", "baseline"])
def test_timm_trains_the_same_network_on_as_many_images(open_tiny, name):
    bench = open_tiny(name, batches=4)
    assert has_timm_loop(bench)
    before = [parameter.clone() for parameter in bench.module.parameters()]
    loop = TimmLoop(bench)
    assert [len(images) for images, _ in loop.loader] == [16] * 4
    loop.train()
    assert any(not torch.equal(a, b) for a, b in zip(before, bench.module.parameters(), strict=True))


def test_timm_s_images_are_mixed_and_normalised_by_the_recipe(open_tiny):
    loop = TimmLoop(
        open_tiny("student", "student.transforms.mixing.probability=1.0", "student.transforms.train.erasing=0")
    )
    images, targets = next(iter(loop.loader))
    assert images.shape == (16, 3, 16, 16)
    assert torch.allclose(targets.sum(1), torch.ones(16))
    mean, std = loop.bench.datamodule.normalisation.mean[0], loop.bench.datamodule.normalisation.std[0]
    assert images.min().item() == pytest.approx(-mean / std, abs=1e-4)  # black
    assert 0 < images.max().item() <= (1 - mean) / std + 1e-4


def test_timm_has_no_sam(open_tiny):
    assert not has_timm_loop(open_tiny("sam_teacher"))


@pytest.mark.parametrize("fused", [True, False])
def test_operations_of_a_transformer_block_as_counted_by_hand(fused):
    tokens, width = 17, 32
    block = Block(width, num_heads=4)
    block.attn.fused_attn = fused
    images = torch.randn(2, tokens, width, requires_grad=True)
    linear = 2 * tokens * width * width * (3 + 1 + 4 + 4)  # queries, keys, values; projection; MLP
    attention = 2 * 2 * tokens * tokens * width  # scores, and the values they weigh
    assert count_operations(lambda: block(images).sum().backward()) == 2 * 3 * (linear + attention)


def test_compiled_networks_count_as_they_are_written():
    layer = nn.Linear(7, 5)
    layer.compile()
    assert count_operations(lambda: layer(torch.randn(3, 7))) == 2 * 3 * 7 * 5


def test_a_step_with_sam_counts_two_passes(open_tiny):
    plain, sam = (BareLoop(open_tiny(name)) for name in ("baseline", "sam_baseline"))
    assert step_operations(sam) == 2 * step_operations(plain) > 0
    assert all(parameter.grad is None for parameter in plain.module.parameters())


def test_the_matrix_peak_is_that_of_the_best_size():
    assert matrix_peak(torch.device("cpu"), "bf16-mixed", sizes=(32, 64)) > 1e6
