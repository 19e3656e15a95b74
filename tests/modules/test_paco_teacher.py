from copy import deepcopy

import lightning as L
import pytest
import torch
from paco_runs import COUNTS, RATE, by_hand, pairs, sgd, small_loss, small_module, small_network
from torch.utils.data import DataLoader

from deitlt.callbacks import SharpnessAwareMinimization
from deitlt.errors import ConfigError
from deitlt.losses import CrossEntropyLoss, PaCoLoss
from deitlt.models import create_teacher
from deitlt.modules import PaCoTeacherModule, TeacherModule
from deitlt.types import Batch, ImageBatch


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


def test_keys_of_a_window_enter_the_queue_as_those_of_one_batch(make_trainer, module):
    trained = module()
    make_trainer(accumulate_grad_batches=3).fit(trained, loader(pairs(3)))
    expected = torch.cat([batch.targets[4:] for batch in pairs(3)])
    assert torch.equal(trained.network.queue_labels[:12], expected)
    assert (trained.network.queue_labels[12:] == -1).all()
    assert torch.allclose(trained.network.queue[:12].norm(dim=1), torch.ones(12, dtype=torch.float64))


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


def test_the_checkpoint_holds_queue_and_key_encoder_and_the_optimiser_only_what_learns(make_trainer, module, tmp_path):
    trained = module()
    trainer = make_trainer()
    trainer.fit(trained, loader(pairs()))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(stored["network.queue"], trained.network.queue)
    assert "network.encoder_k.fc.3.weight" in stored
    optimised = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert id(trained.network.linear.weight) in optimised
    assert not optimised & {id(p) for p in trained.network.encoder_k.parameters()}


def test_a_step_outside_a_trainer_makes_its_own_keys(module):
    alone, batch = module(), pairs(1)[0]
    alone.log = lambda *args, **options: None
    loss = alone.training_step(batch, 0)
    network = small_network()
    queries, logits = network.queries(batch.images[:4])
    features = torch.cat([queries, network.keys(batch.images[4:])])
    torch.testing.assert_close(loss, small_loss()(features, batch.targets, logits))
    assert loss.requires_grad


def test_it_is_evaluated_as_any_teacher(make_trainer, module):
    trained = module()
    test = [ImageBatch(batch.images, batch.targets) for batch in pairs(2, seed=3)]
    trainer = make_trainer()
    trainer.test(trained, loader(test), verbose=False)
    trained.network.eval()
    right = torch.cat([trained.network(images).argmax(1) == targets for images, targets in test])
    assert float(trainer.callback_metrics["test/all"]) == pytest.approx(100 * right.double().mean())


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


def test_a_single_view_is_refused_before_it_is_cut_in_two(make_trainer, module):
    single = [Batch(batch.images, torch.arange(8) % 3) for batch in pairs(1)]
    with pytest.raises(ConfigError, match="two views of each image; type teacher/transforms=paco_cifar"):
        make_trainer().fit(module(), loader(single))


def test_mixed_targets_are_refused(make_trainer, module):
    mixed = [Batch(batch.images, torch.full((8, 4), 0.25)) for batch in pairs(1)]
    with pytest.raises(ConfigError, match=r"type teacher\.transforms\.mixing=null"):
        make_trainer().fit(module(), loader(mixed))


def test_a_queue_smaller_than_an_update_is_refused(make_trainer, module):
    with pytest.raises(ConfigError, match="queue_size=7 is smaller than the 8 keys of one update"):
        make_trainer(accumulate_grad_batches=2).fit(module(queue_size=7), loader(pairs(2)))


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


def test_a_callback_sees_the_queue_grow_after_each_update(make_trainer, module):
    filled = []

    class Watching(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            filled.append(int((pl_module.network.queue_labels >= 0).sum()))

    make_trainer(accumulate_grad_batches=2, callbacks=[Watching()]).fit(module(), loader(pairs(6)))
    assert filled == [0, 0, 8, 8, 16, 16]


def test_keys_and_queue_keep_their_digits_in_half_precision(make_trainer, info):
    trained = small_module(info).float()
    batches = [batch._replace(images=batch.images.float()) for batch in pairs()]
    options = {"precision": "bf16-mixed", "callbacks": [SharpnessAwareMinimization(0.1)]}
    make_trainer(**options).fit(trained, loader(batches))
    queue = trained.network.queue
    assert queue.dtype == torch.float32
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(16), rtol=0, atol=1e-6)
    assert all(parameter.isfinite().all() for parameter in trained.parameters())
