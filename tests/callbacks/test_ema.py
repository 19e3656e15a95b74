import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from deitlt.callbacks import SharpnessAwareMinimization, StudentAveraging
from deitlt.types import ImageBatch


class Weights(L.Callback):
    """Remembers the weights after each update, on the CPU, in double precision."""

    def __init__(self):
        self.found = []

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        """The first moment at which a following batch sees the updated weights."""
        self._follow(trainer, pl_module)

    def on_train_end(self, trainer, pl_module):
        self._follow(trainer, pl_module)

    def _follow(self, trainer, pl_module):
        if trainer.global_step > len(self.found):
            self.found.append(weights(pl_module.network))

    def average(self, decay):
        """Each with the share that the geometric series gives it, over the sum of the shares."""
        shares = torch.tensor([decay**age for age in reversed(range(len(self.found)))], dtype=torch.float64)
        return (shares / shares.sum()) @ torch.stack(self.found)


def weights(network):
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("decay", [0.0, 0.7, 0.9999])
def test_each_update_has_its_share_and_the_first_weights_none(
    make_trainer, student_module, student_batches, accumulate, decay
):
    module, averaging, seen = student_module(), StudentAveraging(decay), Weights()
    trainer = make_trainer(callbacks=[averaging, seen], max_epochs=2, accumulate_grad_batches=accumulate)
    trainer.fit(module, student_batches())
    assert len(seen.found) == 2 * -(-6 // accumulate)
    assert weights(averaging.average.module) == pytest.approx(seen.average(decay), abs=1e-6)
    assert torch.equal(weights(averaging.average.module), weights(module.network)) == (decay == 0)


def test_it_averages_the_weights_that_sam_came_back_to(make_trainer, student_module, student_batches):
    module, averaging, seen = student_module(), StudentAveraging(0.7), Weights()
    sam = SharpnessAwareMinimization(5.0)
    make_trainer(callbacks=[sam, averaging, seen]).fit(module, student_batches())
    assert weights(averaging.average.module) == pytest.approx(seen.average(0.7), abs=1e-6)


def test_it_is_neither_trained_nor_part_of_the_modules_weights(make_trainer, student_module, student_batches):
    module, averaging = student_module(), StudentAveraging()
    names = set(module.state_dict())
    make_trainer(callbacks=[averaging]).fit(module, student_batches())
    assert set(module.state_dict()) == names
    assert not averaging.average.module.training
    trained = {id(p) for group in module.trainer.optimizers[0].param_groups for p in group["params"]}
    assert not trained & {id(p) for p in averaging.average.module.parameters()}


def checkpointed(make_trainer, module, batches, folder, epochs, ckpt_path=None, **options):
    averaging = StudentAveraging(0.7)
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = make_trainer(callbacks=[averaging, last], max_epochs=epochs, enable_checkpointing=True, **options)
    trainer.fit(module, batches, ckpt_path=ckpt_path, weights_only=True)
    return averaging, trainer


def test_a_checkpoint_holds_it_under_its_own_key_and_a_test_evaluates_it(
    make_trainer, student_module, student_batches, tmp_path
):
    module = student_module()
    averaging, trainer = checkpointed(make_trainer, module, student_batches(), tmp_path, 2)
    average = averaging.average.module
    stored, kept = torch.load(tmp_path / "last.ckpt", weights_only=True), average.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in stored["ema"].items())
    assert not any("ema" in name for name in stored["state_dict"])
    torch.nn.init.zeros_(average.vit.head.weight)
    trainer.test(module, evaluation_batches(), tmp_path / "last.ckpt", verbose=False, weights_only=True)
    assert all(torch.equal(value, stored["ema"][name]) for name, value in average.state_dict().items())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_goes_on_with_it(make_trainer, student_module, student_batches, tmp_path, accumulate):
    def train(folder, epochs, ckpt_path=None):
        options = {"accumulate_grad_batches": accumulate, "ckpt_path": ckpt_path}
        return checkpointed(make_trainer, student_module(), student_batches(), folder, epochs, **options)

    whole, _ = train(tmp_path / "whole", 4)
    train(tmp_path / "cut", 2)
    resumed, trainer = train(tmp_path / "cut", 4, tmp_path / "cut/last.ckpt")
    assert trainer.global_step == 4 * 6 // accumulate
    assert torch.equal(weights(resumed.average.module), weights(whole.average.module))


def evaluation_batches():
    stream = torch.Generator().manual_seed(3)
    batches = [ImageBatch(torch.randn(8, 3, 8, 8, generator=stream), torch.arange(8) % 4) for _ in range(4)]
    return DataLoader(batches, batch_size=None)


def test_one_evaluation_tells_of_both(make_trainer, student_module, student_batches):
    module, averaging = student_module(), StudentAveraging(0.99)
    trainer = make_trainer(callbacks=[averaging], max_epochs=3)
    trainer.fit(module, student_batches())
    logged = trainer.test(module, evaluation_batches(), verbose=False)[0]
    assert {"test/cls/all", "test/dist/tail", "test/avg/balanced"} <= set(logged)
    assert {"test/ema/cls/all", "test/ema/dist/tail", "test/ema/avg/balanced"} <= set(logged)
    images = torch.cat([batch.images for batch in evaluation_batches()])
    targets = torch.cat([batch.targets for batch in evaluation_batches()])
    for name, network in (("test", module.network), ("test/ema", averaging.average.module)):
        with torch.no_grad():
            right = (network.eval()(images).dist.argmax(1) == targets).double().mean()
        assert logged[f"{name}/dist/all"] == pytest.approx(100 * float(right))
    assert set(module.results["test"]) == {"raw", "ema"}
