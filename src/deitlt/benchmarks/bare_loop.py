"""The same training as Lightning's in a bare PyTorch loop: what the framework costs is the difference."""

from typing import Any, TypeVar

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from deitlt.benchmarks.bench import Bench
from deitlt.callbacks import SeededSteps, SharpnessAwareMinimization, StudentAveraging
from deitlt.callbacks.sam import frozen_statistics
from deitlt.optim import ascend, restore

Found = TypeVar("Found", bound=L.Callback)


class BareLoop:
    """Trains a bench's module on its data, with its optimiser, SAM and average, without Lightning's loops.

    Batches come from the same loader, through the same hooks of data module and module, to the same `training_step`.
    The bench's trainer only holds what these ask it for: the epoch, the batch, the rank, the precision. Random draws
    are those of a run, so that the weights end as Lightning's do.

    Args:
        bench: the stage; it must not be trained elsewhere.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench, self.device = bench, bench.device
        self.trainer, self.module, self.data = bench.trainer, bench.module, bench.datamodule
        self.module.trainer = self.data.trainer = self.trainer
        self.trainer.state.fn = TrainerFn.FITTING
        self.trainer.training = True
        self.module.to(self.device).train()
        self.optimizer: Optimizer = self.module.configure_optimizers()
        self.trainer.optimizers = [self.optimizer]
        self.loader = self.data.train_dataloader()
        self.trainer.fit_loop.max_batches = self.batches = len(self.loader)
        self.sam = _find(bench.callbacks, SharpnessAwareMinimization)
        self.averaging = _find(bench.callbacks, StudentAveraging)
        if self.averaging is not None:
            self.averaging.setup(self.trainer, self.module, "fit")
            self.averaging.on_fit_start(self.trainer, self.module)
        self.seeding = SeededSteps(bench.stage.seed)
        self.updates = self.epoch = 0
        self.sums: dict[str, Tensor] = {}
        self.logged: list[dict[str, float]] = []  # each epoch's means
        self._norms = [m for m in self.module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        self._mutes = False
        self._window: list[tuple[Any, int]] = []
        self._held: Any = None
        self.module.log_training = self._log  # type: ignore[method-assign]

    def train(self) -> None:
        """One round of whole epochs."""
        for _ in range(self.bench.round_epochs):
            self._begin_epoch()
            for i, batch in enumerate(self.loader):
                self.step(self.complete(batch, i), i)
            self.logged.append({name: float(value) / self.batches for name, value in self.sums.items()})
            self.sums.clear()
            self.epoch += 1

    def feed(self) -> None:
        """The input of a round: loaded, transferred, transformed and mixed, but not trained on."""
        for _ in range(self.bench.round_epochs):
            self._begin_epoch()
            for i, batch in enumerate(self.loader):
                self.complete(batch, i)

    def train_on_held(self) -> None:
        """The steps of a round, all of them on one complete batch that is on the device."""
        batch = self.held
        for _ in range(self.bench.round_epochs):
            for i in range(self.batches):
                self._set_batch(i)
                self.step(batch, i)

    @property
    def held(self) -> Any:
        """One complete batch on the device."""
        if self._held is None:
            self._begin_epoch()
            for i, batch in enumerate(self.loader):  # to its end, so that no worker is left with work
                self._held = self.complete(batch, i) if i == 0 else self._held
        return self._held

    def complete(self, batch: Any, i: int) -> Any:
        """A loaded batch on its device, transformed and mixed."""
        self._set_batch(i)
        return self.data.on_after_batch_transfer(self.data.transfer_batch_to_device(batch, self.device, 0), 0)

    def step(self, batch: Any, i: int) -> None:
        """Forward and backward of the epoch's batch i, and the update if it is the window's last."""
        self.seeding.on_train_batch_start(self.trainer, self.module, batch, i)
        self.module.on_train_batch_start(batch, i)
        self._window.append((batch, i))
        loss = self.backward(batch, i)
        if (i + 1) % self.trainer.accumulate_grad_batches == 0 or i + 1 == self.batches:
            self._update()
        self.module.on_train_batch_end({"loss": loss}, batch, i)

    def backward(self, batch: Any, i: int) -> Tensor:
        """Forward and backward of a complete batch; its loss."""
        with self.trainer.precision_plugin.forward_context():
            loss = self.module.training_step(batch, i)
        assert isinstance(loss, Tensor)
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        (scaled / self.trainer.accumulate_grad_batches).backward()
        return loss.detach()

    def _update(self) -> None:
        if self.sam is not None:
            self._ascend_and_restore(self.sam)
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        if (largest := self.bench.stage.recipe["gradient_clip"]) is not None:
            clip_grad_norm_(self.module.parameters(), largest)
        if self._scaler is None:
            self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        self.optimizer.zero_grad()
        self._window.clear()
        self.updates += 1
        if self.averaging is not None:
            self.averaging.update(self.module.network, self.updates)

    def _ascend_and_restore(self, sam: SharpnessAwareMinimization) -> None:
        """SAM: the gradients at the sharpest point near the weights, of the same batches and random draws."""
        scale = 1.0 if self._scaler is None else self._scaler.get_scale()
        moved = ascend(self.module.parameters(), sam.rho(self.epoch), sam.adaptive, scale)
        self.optimizer.zero_grad()
        self._mutes = True
        with frozen_statistics(self._norms):
            for batch, i in self._window:
                self.seeding.on_train_batch_start(self.trainer, self.module, batch, i)
                self.backward(batch, i)
        self._mutes = False
        restore(moved)

    @property
    def _scaler(self) -> Any:
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def _log(self, **values: Tensor) -> None:
        """Add up on the device, as a plain loop would."""
        if not self._mutes:
            for name, value in values.items():
                self.sums[name] = self.sums[name] + value.detach() if name in self.sums else value.detach()

    def _begin_epoch(self) -> None:
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        progress.processed = progress.completed = self.epoch
        order: Any = self.loader.sampler
        order.set_epoch(self.epoch)

    def _set_batch(self, i: int) -> None:
        """Say which batch of the epoch is at hand: Lightning counts it as ready only after its transfer hooks."""
        self.trainer.fit_loop.epoch_loop.batch_progress.current.ready = i


def _find(callbacks: list[L.Callback], kind: type[Found]) -> Found | None:
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)
