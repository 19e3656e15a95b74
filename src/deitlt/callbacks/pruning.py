"""Stops a stage whose accuracy falls behind that of others, before it has cost its whole time."""

from collections.abc import Callable

import lightning as L

Judge = Callable[[int, float], bool]


class Pruning(L.Callback):
    """Asks after each evaluation whether the stage is still worth its time.

    Args:
        metric: name of the number to report, as it is logged, such as 'val/avg/balanced'.
        judge: epochs done, the number -> whether to stop. It is asked on rank zero alone.
    """

    def __init__(self, metric: str, judge: Judge) -> None:
        self.metric = metric
        self.judge = judge
        self.value: float | None = None
        self.pruned_at: int | None = None  # epochs that were done

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the number, and stop every rank if the judge says so; the epoch's checkpoint is still written."""
        if trainer.state.fn != "fit" or self.metric not in trainer.callback_metrics:
            return
        epoch = trainer.current_epoch + 1
        self.value = float(trainer.callback_metrics[self.metric])
        verdict = self.judge(epoch, self.value) if trainer.is_global_zero else False
        if trainer.strategy.broadcast(verdict) and epoch != trainer.max_epochs:
            self.pruned_at = epoch
            trainer.should_stop = True
