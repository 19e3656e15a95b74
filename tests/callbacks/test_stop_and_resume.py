import os
import signal

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from deitlt.callbacks import Preemption, SeededSteps, SharpnessAwareMinimization
from deitlt.callbacks.stop_and_resume import SIGNALS
from deitlt.errors import Preempted


class Drawing(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.draws = {}

    def training_step(self, batch, batch_idx):
        self.draws.setdefault((self.current_epoch, batch_idx), []).append(torch.rand(()).item())
        return self.weight * 1.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def draws(make_trainer, seed=0, first_epoch=0, global_seed=0, callbacks=()):
    torch.manual_seed(global_seed)
    module, trainer = Drawing(), make_trainer(callbacks=[SeededSteps(seed), *callbacks], max_epochs=3)
    trainer.fit_loop.epoch_progress.current.completed = first_epoch
    trainer.fit_loop.epoch_progress.current.processed = first_epoch
    trainer.fit(module, torch.utils.data.DataLoader(range(4), batch_size=1))
    return module.draws


def test_draws_depend_on_seed_epoch_and_batch_alone(make_trainer):
    whole, other_stream = draws(make_trainer), draws(make_trainer, global_seed=9)
    assert whole == other_stream
    assert len({value for values in whole.values() for value in values}) == 12
    later = draws(make_trainer, first_epoch=2, global_seed=5)
    assert set(later) == {(2, batch) for batch in range(4)}
    assert later.items() <= whole.items()
    other_seed = draws(make_trainer, seed=1)
    assert all(other_seed[key] != whole[key] for key in whole)


def test_sams_second_pass_repeats_them(make_trainer):
    twice = draws(make_trainer, callbacks=[SharpnessAwareMinimization(0.05)])
    once = draws(make_trainer)
    assert twice == {key: values * 2 for key, values in once.items()}


@pytest.mark.parametrize("callbacks", [[SeededSteps(0)], []], ids=["seeded", "not seeded"])
def test_drop_path_repeats_where_it_is_seeded(make_trainer, student_module, student_batches, callbacks):
    def weights(global_seed):
        module = student_module(drop_path=0.5)
        torch.manual_seed(global_seed)
        make_trainer(callbacks=callbacks).fit(module, student_batches())
        return torch.nn.utils.parameters_to_vector(module.network.parameters())

    assert torch.equal(weights(1), weights(2)) == bool(callbacks)


class Signalled(L.Callback):
    """Sends this process a signal after a batch, and counts the batches."""

    def __init__(self, after, signum):
        self.after, self.signum, self.batches = after, signum, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches += 1
        if self.batches == self.after:
            os.kill(os.getpid(), self.signum)


def stopped(make_trainer, folder, after, signum=signal.SIGTERM, epochs=3, **options):
    """Epochs that were saved and batches that were done of a run that gets a signal."""
    sender, last = Signalled(after, signum), folder / "last.ckpt"
    every = options.pop("every", 1)
    saved = ModelCheckpoint(folder, "last", every_n_epochs=every, save_on_train_epoch_end=True)
    callbacks = [sender, Preemption(last, every=every, **options), saved]
    trainer = make_trainer(callbacks=callbacks, max_epochs=epochs, enable_checkpointing=True)
    with pytest.raises(Preempted) as raised:
        trainer.fit(Drawing(), torch.utils.data.DataLoader(range(4), batch_size=1))
    assert raised.value.code == 75
    assert raised.value.signum == signum
    epoch = torch.load(last, weights_only=True)["epoch"] if last.exists() else None
    return epoch, sender.batches


@pytest.fixture(autouse=True)
def signals_are_given_back():
    before = [signal.getsignal(taken) for taken in SIGNALS]
    yield
    assert [signal.getsignal(taken) for taken in SIGNALS] == before


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_ends_training_after_the_epoch_and_its_checkpoint(make_trainer, tmp_path, signum):
    assert stopped(make_trainer, tmp_path, after=6, signum=signum) == (1, 8)


def test_without_time_for_the_epoch_training_ends_at_once(make_trainer, tmp_path):
    assert stopped(make_trainer, tmp_path, after=6, grace=0.0) == (0, 6)


def test_before_the_first_epochs_end_there_is_nothing_to_go_on_with(make_trainer, tmp_path):
    assert stopped(make_trainer, tmp_path, after=2, grace=0.0) == (None, 2)


def test_an_epoch_that_would_have_no_checkpoint_gets_one(make_trainer, tmp_path):
    assert stopped(make_trainer, tmp_path, after=6, epochs=6, every=4) == (2, 8)


def test_a_signal_in_the_last_epoch_ends_the_run_before_its_test(make_trainer, tmp_path):
    assert stopped(make_trainer, tmp_path, after=12) == (2, 12)
