"""Sharpness-aware minimisation of any module, under Lightning's automatic optimisation."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, NamedTuple

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from deitlt.errors import ConfigError
from deitlt.optim import ConstantRho, RhoSchedule, ascend, restore

Closure = Callable[[], Any]


class MicroBatch(NamedTuple):
    """One batch of the accumulation window, with the random stream that its first pass began with."""

    batch: Any
    batch_idx: int
    random_state: Tensor
    device_random_state: Tensor | None


class SharpnessAwareMinimization(L.Callback):
    """Steps with the gradient at the sharpest point near the weights (Foret et al., 2021).

    It wraps the module's `optimizer_step`: first pass, ascent, second pass over every batch of the
    accumulation window with the random streams of the first, weights restored, step. Clipping, a
    GradScaler and weight decay act once, on the second gradient. In the second pass BatchNorm's
    statistics stand still and nothing is logged.

    Args:
        rho: radius of the neighbourhood, or a schedule of it by epoch.
        adaptive: ASAM's neighbourhood, scaled by each weight (Kwon et al., 2021).
        scope: 'rank' ascends on each rank's own gradient (m-sharpness, as in the paper), 'global' on
            the mean over the ranks.

    Raises:
        ConfigError: if the module optimises by hand.
    """

    def __init__(
        self, rho: float | RhoSchedule = 0.05, adaptive: bool = False, scope: Literal["rank", "global"] = "rank"
    ) -> None:
        self.rho: RhoSchedule = ConstantRho(rho) if isinstance(rho, int | float) else rho
        self.adaptive = adaptive
        self.scope = scope
        self._window: list[MicroBatch] = []
        self._norms: list[_BatchNorm] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wrap the module's optimizer step."""
        if not pl_module.automatic_optimization:
            raise ConfigError("SAM needs a module with automatic optimisation; remove the sam callback.")
        self._norms = [m for m in pl_module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        plain_step = pl_module.optimizer_step

        def optimizer_step(
            epoch: int, batch_idx: int, optimizer: LightningOptimizer, optimizer_closure: Closure
        ) -> None:
            sharp = lambda: self._two_passes(trainer, pl_module, optimizer, optimizer_closure)  # noqa: E731
            plain_step(epoch, batch_idx, optimizer, sharp)

        pl_module.optimizer_step = optimizer_step  # type: ignore[method-assign,assignment]

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the module its own step back."""
        pl_module.__dict__.pop("optimizer_step", None)
        self._window.clear()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """The same where training broke off, after which Lightning calls no teardown."""
        self.teardown(trainer, pl_module, "fit")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log this epoch's radius."""
        pl_module.log("train/rho", self.rho(trainer.current_epoch), rank_zero_only=True)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch and its random streams for the second pass."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._window.clear()
        on_gpu = pl_module.device.type == "cuda"
        device_state = torch.cuda.get_rng_state(pl_module.device) if on_gpu else None
        self._window.append(MicroBatch(batch, batch_idx, torch.get_rng_state(), device_state))

    def _two_passes(
        self, trainer: L.Trainer, module: L.LightningModule, optimizer: LightningOptimizer, first_pass: Closure
    ) -> Any:
        with _unsynchronised(trainer, self.scope == "rank"):
            result = first_pass()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()
        moved = ascend(parameters, self.rho(trainer.current_epoch), self.adaptive, scale)
        optimizer.zero_grad()
        with _muted(module), frozen_statistics(self._norms):
            self._second_pass(trainer, module, optimizer)
        restore(moved)
        return result

    def _second_pass(self, trainer: L.Trainer, module: L.LightningModule, optimizer: LightningOptimizer) -> None:
        strategy = trainer.strategy
        devices = [module.device] if module.device.type == "cuda" else []
        for micro in self._window:
            is_last = micro is self._window[-1]
            with torch.random.fork_rng(devices), torch.enable_grad(), _unsynchronised(trainer, not is_last):
                torch.set_rng_state(micro.random_state)
                if micro.device_random_state is not None:
                    torch.cuda.set_rng_state(micro.device_random_state, module.device)
                output = strategy.training_step(micro.batch, micro.batch_idx)
                loss = output["loss"] if isinstance(output, Mapping) else output
                assert isinstance(loss, Tensor), "SAM needs a loss in each pass"
                strategy.backward(loss / trainer.accumulate_grad_batches, optimizer.optimizer)


def _unsynchronised(trainer: L.Trainer, local: bool) -> Any:
    """Gradients of this rank alone, where there are several."""
    strategy = trainer.strategy
    if local and isinstance(strategy, ParallelStrategy):
        return strategy.block_backward_sync()
    return nullcontext()


@contextmanager
def _muted(module: L.LightningModule) -> Iterator[None]:
    """The second pass logs nothing: its loss is not the model's."""

    def ignore(*args: Any, **kwargs: Any) -> None:
        return None

    module.log, module.log_dict = ignore, ignore  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.log, module.log_dict


@contextmanager
def frozen_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    """BatchNorm counts each batch once, at the weights that are kept."""
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
