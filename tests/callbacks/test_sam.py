import math

import lightning as L
import numpy as np
import pytest
import torch
from small_runs import Classifier, by_hand, fit, flat, golden, golden_data, golden_network, sam
from torch import nn
from torch.nn import functional as F

from deitlt.errors import ConfigError, TrainingError
from deitlt.optim import LinearRho, StepRho

METHODS = {"sam_rho0.05": sam(0.05), "asam_rho0.5": sam(0.5, adaptive=True)}


@pytest.mark.parametrize("micro", [1, 2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_trajectory_equals_the_authors_however_a_batch_is_cut(method, micro):
    module = Classifier(golden_network())
    fit(module, golden_data(), METHODS[method], batch_size=32 // micro, accumulate_grad_batches=micro)
    expected = golden()[f"{method}_f64_weights_after_each_step"]
    np.testing.assert_allclose(torch.stack(module.updates), expected, rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_the_second_pass_sees_the_authors_perturbed_weights(method):
    module = Classifier(golden_network())
    start = flat(module.net)
    fit(module, golden_data(), METHODS[method])
    assert len(module.passes) == 10
    assert torch.equal(module.passes[0], start)
    np.testing.assert_allclose(module.passes[1], golden()[f"{method}_f64_perturbed_step0"], rtol=1e-9)
    assert torch.equal(module.passes[2], module.updates[0])


def test_each_micro_batch_of_a_window_meets_the_same_weights():
    module = Classifier(golden_network())
    fit(module, golden_data(), sam(), batch_size=8, accumulate_grad_batches=4)
    first, second = module.passes[:4], module.passes[4:8]
    assert all(torch.equal(weights, first[0]) for weights in first)
    assert all(torch.equal(weights, second[0]) for weights in second)
    assert (second[0] - first[0]).norm() == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("accumulate", [1, 3])  # five batches: the last window of three is short
@pytest.mark.parametrize("clip", [None, 0.3])
def test_clipping_acts_once_on_the_second_gradient(accumulate, clip):
    module = Classifier(golden_network())
    options = {"accumulate_grad_batches": accumulate, "gradient_clip_val": clip}
    fit(module, golden_data(), sam(0.5), epochs=2, **options)
    expected = by_hand(golden_network(), golden_data(), lambda epoch: 0.5, 32, accumulate, clip, epochs=2)
    torch.testing.assert_close(torch.stack(module.updates), expected, rtol=1e-9, atol=0)
    if clip is not None:
        unclipped = by_hand(golden_network(), golden_data(), lambda epoch: 0.5, 32, accumulate, epochs=2)
        assert not torch.allclose(unclipped, expected)


def single(data):
    return data[0].float(), data[1]


def test_bfloat16_equals_the_loop_written_by_hand():
    module, other = Classifier(golden_network().float()), golden_network().float()
    fit(module, single(golden_data()), sam(), precision="bf16-mixed")
    autocast = torch.autocast("cpu", torch.bfloat16, cache_enabled=False)
    expected = by_hand(other, single(golden_data()), lambda epoch: 0.05, autocast=autocast)
    torch.testing.assert_close(torch.stack(module.updates), expected, rtol=1e-5, atol=1e-6)
    full = golden()["sam_rho0.05_f64_weights_after_each_step"]
    np.testing.assert_allclose(torch.stack(module.updates), full, atol=0.02)


def half_precision(scale, enabled=True):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10_000, enabled=enabled)
    return L.pytorch.plugins.MixedPrecision("16-mixed", "cpu", scaler)


@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 0.3}, {"accumulate_grad_batches": 2}])
@pytest.mark.parametrize("adaptive", [False, True])
def test_a_grad_scaler_changes_nothing(adaptive, options):
    def trajectory(**scaling):
        module = Classifier(golden_network().float())
        fit(module, single(golden_data()), sam(0.5, adaptive=adaptive), plugins=[half_precision(**scaling)], **options)
        return torch.stack(module.updates)

    torch.testing.assert_close(trajectory(scale=2.0**10), trajectory(scale=1.0, enabled=False), rtol=1e-3, atol=1e-4)


def test_a_grad_scaler_skips_steps_whose_gradients_are_infinite():
    module, plugin = Classifier(golden_network().float()), half_precision(2.0**21)
    start = flat(module.net)
    fit(module, single(golden_data()), sam(), plugins=[plugin])
    skipped = round(math.log2(2.0**21 / plugin.scaler.get_scale()))  # each skip halves the scale
    assert 1 <= skipped < 5
    assert all(torch.equal(weights, start) for weights in module.updates[:skipped])
    assert not torch.equal(module.updates[skipped], start)
    assert module.updates[-1].isfinite().all()


@pytest.mark.parametrize("adaptive", [False, True])
def test_weights_come_back_bit_for_bit(adaptive):
    torch.manual_seed(0)
    module = Classifier(nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)), lr=0.0)
    start = flat(module.net)
    fit(module, single(golden_data()), sam(3.0, adaptive=adaptive))
    assert not torch.equal(module.passes[1], start)
    assert torch.equal(flat(module.net), start)


def normed():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))


@pytest.mark.parametrize("micro", [1, 2])
def test_batch_norm_counts_each_batch_once_at_the_kept_weights(micro):
    module, plain = Classifier(normed()), normed().train()
    data = tuple(part[:32] for part in single(golden_data()))
    for x in data[0].split(32 // micro):
        plain(x)
    fit(module, data, sam(2.0), batch_size=32 // micro, accumulate_grad_batches=micro)
    assert int(module.net[1].num_batches_tracked) == micro
    assert torch.equal(module.net[1].running_mean, plain[1].running_mean)
    assert torch.equal(module.net[1].running_var, plain[1].running_var)
    assert module.net[1].track_running_stats


def test_batch_norm_normalises_by_the_batch_in_both_passes():
    module, data = Classifier(normed()), single(golden_data())
    fit(module, data, sam(0.5))
    expected = by_hand(normed().train(), data, lambda epoch: 0.5)
    torch.testing.assert_close(torch.stack(module.updates), expected, rtol=1e-4, atol=1e-6)


class Dropping(Classifier):
    def __init__(self, net):
        super().__init__(net)
        self.masks = []

    def training_step(self, batch, batch_idx):
        self.masks.append(F.dropout(torch.ones(50), 0.5))
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("micro", [1, 2])
def test_dropout_draws_the_same_mask_in_both_passes(micro):
    module = Dropping(golden_network())
    fit(module, golden_data(), sam(), batch_size=32 // micro, accumulate_grad_batches=micro)
    for window in range(5):
        masks = module.masks[2 * micro * window : 2 * micro * (window + 1)]
        assert all(torch.equal(a, b) for a, b in zip(masks[:micro], masks[micro:], strict=True))
    assert len(torch.stack(module.masks).unique(dim=0)) == 5 * micro


def test_the_random_stream_goes_on_as_if_there_were_one_pass():
    def next_draw(callback):
        torch.manual_seed(3)
        fit(Dropping(golden_network()), golden_data(), callback)
        return torch.rand(4)

    assert torch.equal(next_draw(sam()), next_draw(None))


def test_what_is_logged_is_the_first_pass():
    trainer = fit(module := Classifier(golden_network()), golden_data(), sam())
    expected = golden()["sam_rho0.05_f64_loss_at_w_and_at_w_plus_e"][:, 0].mean()
    assert float(trainer.callback_metrics["loss"]) == pytest.approx(expected, rel=1e-5)
    assert "log" not in module.__dict__


@pytest.mark.parametrize("rho", [StepRho({0: 0.05, 1: 0.2, 3: 0.4}), LinearRho(0.1, 0.4, 4)], ids=["steps", "line"])
def test_rho_follows_the_epoch(rho):
    module = Classifier(golden_network())
    logged = []

    class Watching(L.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            logged.append(float(trainer.callback_metrics["train/rho"]))

    fit(module, golden_data(), sam(rho), epochs=4, callbacks=[Watching()])
    moved = [(b - a).norm().item() for a, b in zip(module.passes[::2], module.passes[1::2], strict=True)]
    assert moved == pytest.approx([rho(epoch) for epoch in range(4) for _ in range(5)], rel=1e-6)
    assert logged == pytest.approx([rho(epoch) for epoch in range(4)], rel=1e-6)
    torch.testing.assert_close(
        torch.stack(module.updates), by_hand(golden_network(), golden_data(), rho, epochs=4), rtol=1e-9, atol=0
    )


def test_the_module_gets_its_own_step_back():
    module = Classifier(golden_network())
    fit(module, golden_data(), sam())
    assert "optimizer_step" not in module.__dict__
    assert module.optimizer_step.__func__ is L.LightningModule.optimizer_step


class Failing(Classifier):
    fails = True

    def training_step(self, batch, batch_idx):
        if self.fails and batch_idx == 2:
            raise TrainingError("stop")
        return super().training_step(batch, batch_idx)


def test_a_module_whose_training_broke_off_can_be_trained_again():
    module = Failing(golden_network())
    with pytest.raises(TrainingError):
        fit(module, golden_data(), sam())
    assert "optimizer_step" not in module.__dict__
    module.net, module.fails, module.updates = golden_network(), False, []
    fit(module, golden_data(), sam())
    expected = golden()["sam_rho0.05_f64_weights_after_each_step"]
    np.testing.assert_allclose(torch.stack(module.updates), expected, rtol=1e-9)


def test_a_broken_second_pass_leaves_the_module_able_to_log():
    class FailsAtTheTop(Classifier):
        def training_step(self, batch, batch_idx):
            if len(self.passes) == 3:
                raise TrainingError("stop")
            return super().training_step(batch, batch_idx)

    module = FailsAtTheTop(normed())
    with pytest.raises(TrainingError):
        fit(module, single(golden_data()), sam())
    assert "log" not in module.__dict__
    assert module.net[1].track_running_stats


def test_manual_optimisation_is_refused():
    module = Classifier(golden_network())
    module.automatic_optimization = False
    with pytest.raises(ConfigError, match="automatic optimisation"):
        fit(module, golden_data(), sam())
