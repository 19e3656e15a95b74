import lightning as L
import pytest
import torch

from deitlt.callbacks import SeededSteps, SharpnessAwareMinimization


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
