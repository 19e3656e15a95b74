import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from tests.modules.paco_runs import COUNTS, RATE, by_hand, pairs, sgd, small_module, small_network
from torch.utils.data import DataLoader

from deitlt.callbacks import SharpnessAwareMinimization
from deitlt.errors import ConfigError
from deitlt.losses import CrossEntropyLoss, PaCoLoss
from deitlt.models import create_teacher
from deitlt.modules import PaCoTeacherModule, TeacherModule
from deitlt.types import Batch


@pytest.fixture
def module(info):
    return lambda **options: small_module(info, **options)


def loader(batches):
    return DataLoader(batches, batch_size=None)


def assert_same(network, other):
    for (name, ours), theirs in zip(network.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("rho", [0.0, 0.3])
@pytest.mark.parametrize("accumulate", [1, 2, 4])  # six batches: the last window of four is short
def test_training_equals_the_loop_written_by_hand(make_trainer, module, accumulate, rho):
    trained = module()
    callbacks = [SharpnessAwareMinimization(rho)] if rho else []
    make_trainer(accumulate_grad_batches=accumulate, callbacks=callbacks).fit(trained, loader(pairs()))
    assert_same(trained.network, by_hand([pairs()], accumulate, rho))
    assert int(trained.network.queue_pointer) == 6 * 4 % 16
    assert (trained.network.queue_labels >= 0).all()


class WatchingPasses(PaCoTeacherModule):
    """Notes what must not move between the passes of an update."""

    def training_step(self, batch, batch_idx):
        kept = {n: v.clone() for n, v in self.network.state_dict().items() if n.startswith(("encoder_k", "queue"))}
        self.seen = [*getattr(self, "seen", []), kept]
        self.rows = [*getattr(self, "rows", []), self._window[batch_idx].rows]
        return super().training_step(batch, batch_idx)


def test_the_second_pass_moves_neither_queue_nor_key_encoder_nor_its_statistics(make_trainer, info):
    watched = WatchingPasses(small_network(), PaCoLoss(COUNTS), info, sgd, lambda time: RATE)
    options = {"accumulate_grad_batches": 2, "callbacks": [SharpnessAwareMinimization(0.3)]}
    make_trainer(**options).fit(watched, loader(pairs(4)))
    assert len(watched.seen) == 8  # two updates of two batches, twice
    for update in (0, 4):
        *first, after = watched.seen[update + 1 : update + 4]
        for other in first:
            assert all(torch.equal(other[name], after[name]) for name in after)
        for batch in (update, update + 1):
            assert watched.rows[batch] is watched.rows[batch + 2]
    assert not torch.equal(watched.seen[0]["queue"], watched.seen[4]["queue"])
    assert not torch.equal(watched.seen[0]["encoder_k.fc.0.weight"], watched.seen[7]["encoder_k.fc.0.weight"])


def test_resuming_repeats_every_bit(make_trainer, module, tmp_path):
    def run(epochs, resume=None):
        trained = module()
        callbacks = [SharpnessAwareMinimization(0.3)]
        trainer = make_trainer(max_epochs=epochs, accumulate_grad_batches=2, callbacks=callbacks)
        trainer.fit(trained, loader(pairs(5)), ckpt_path=resume, weights_only=True)
        return trained, trainer

    whole, _ = run(3)
    _, trainer = run(1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    resumed, _ = run(3, tmp_path / "one.ckpt")
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


class DroppingKeys(torch.nn.Module):
    """A backbone that draws from the random stream."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images):
        return torch.nn.functional.dropout(self.backbone(images), 0.5, self.training)


def test_dropout_of_the_keys_does_not_shift_the_stream_of_the_second_pass(make_trainer, module):
    """With a radius of 0 both passes are the same, if the queries' dropout is."""

    def trained(callbacks):
        dropping = module()
        dropping.network.encoder_q.backbone = DroppingKeys(dropping.network.encoder_q.backbone)
        dropping.network.encoder_k = deepcopy(dropping.network.encoder_q).requires_grad_(False)
        torch.manual_seed(4)
        make_trainer(callbacks=callbacks).fit(dropping, loader(pairs(3)))
        return dropping.network

    assert_same(trained([SharpnessAwareMinimization(0.0)]), trained([]))


@pytest.mark.parametrize(
    ("targets", "queue_size", "sentence"),
    [
        (torch.arange(8) % 3, 16, "two views of each image; type teacher/transforms=paco_cifar"),
        (torch.full((8, 4), 0.25), 16, r"type teacher\.transforms\.mixing=null"),
        (torch.arange(4).repeat(2), 7, "queue_size=7 is smaller than the 8 keys of one update"),
    ],
)
def test_batches_that_do_not_fit_are_refused_in_one_sentence(make_trainer, module, targets, queue_size, sentence):
    unfit = [Batch(batch.images, targets) for batch in pairs(2)]
    with pytest.raises(ConfigError, match=sentence):
        make_trainer(accumulate_grad_batches=2).fit(module(queue_size=queue_size), loader(unfit))


def test_parts_that_do_not_fit_are_named(info):
    plain = create_teacher(4, "cifar_resnet8")
    parts = {"info": info, "optimizer": sgd, "schedule": lambda time: RATE}
    with pytest.raises(ConfigError, match="type teacher/model=paco_resnet32"):
        PaCoTeacherModule(plain, PaCoLoss(COUNTS), **parts)
    with pytest.raises(ConfigError, match="CrossEntropyLoss; type teacher/loss=paco"):
        PaCoTeacherModule(small_network(), CrossEntropyLoss(), **parts)
    for network, loss in ((small_network(), CrossEntropyLoss()), (plain, PaCoLoss(COUNTS))):
        with pytest.raises(ConfigError, match="type teacher=cifar_paco"):
            TeacherModule(network, loss, **parts)


def test_keys_and_queue_keep_their_digits_in_half_precision(make_trainer, info):
    trained = small_module(info).float()
    batches = [batch._replace(images=batch.images.float()) for batch in pairs()]
    options = {"precision": "bf16-mixed", "callbacks": [SharpnessAwareMinimization(0.1)]}
    make_trainer(**options).fit(trained, loader(batches))
    queue = trained.network.queue
    assert queue.dtype == torch.float32
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(16), rtol=0, atol=1e-6)
    assert all(parameter.isfinite().all() for parameter in trained.parameters())


# Two processes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Each rank's network after training on two processes; one process tree for all runs."""
    folder = tmp_path_factory.mktemp("ddp")
    script = [sys.executable, "-m", "tests.modules.paco_runs", folder]
    done = subprocess.run(script, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return lambda accumulate: [torch.load(f"{folder}/{accumulate}.pt.{rank}") for rank in range(2)]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_both_ranks_hold_what_one_process_with_both_halves_does_and_the_same_queue(ranks, accumulate):
    first, second = ranks(accumulate)
    expected = by_hand([pairs(seed=0), pairs(seed=1)], accumulate, rho=0.3).state_dict()
    for name, value in expected.items():
        if "running_" not in name and "num_batches" not in name:  # BatchNorm counts each rank's own batches
            torch.testing.assert_close(first[name], value, rtol=1e-9, atol=1e-12)
            assert torch.equal(second[name], first[name]), name
    assert int(first["queue_pointer"]) == 2 * 6 * 4 % 16
    assert (first["queue_labels"] >= 0).all()
