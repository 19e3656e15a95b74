"""Stops a stage of a search whose accuracy falls behind that of the jobs before it."""

import json
import statistics
from pathlib import Path

import lightning as L

EVALUATIONS = "evaluations.json"  # in a job's folder: epochs done -> value
PRUNED = "pruned.json"  # in the stage's folder: where it was stopped


class MedianPruning(L.Callback):
    """Stops a job whose best value so far is worse than the median of the others after as many epochs.

    The rule is Golovin et al.'s (Google Vizier, 2017, section 3.1.2), as Optuna's MedianPruner has it. The others are
    the sweep's finished jobs, whose folders lie beside this one's; each leaves its values in a file.

    Args:
        metric: name of the number, as it is logged, such as 'val/avg/balanced'.
        job: folder of this job.
        stage: folder of the stage.
        direction: maximize | minimize.
        after_trials: finished jobs before the first may be stopped.
        after_epochs: epochs that each job is given in any case.
    """

    def __init__(
        self,
        metric: str,
        job: Path,
        stage: Path,
        direction: str = "maximize",
        after_trials: int = 4,
        after_epochs: int = 1,
    ) -> None:
        self.metric, self.job, self.stage = metric, job, stage
        self.sign = 1.0 if direction == "maximize" else -1.0
        self.after_trials, self.after_epochs = after_trials, after_epochs
        self.is_pruned = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the number, and stop every rank if it is behind; the epoch's checkpoint is still written."""
        if trainer.state.fn != "fit" or self.metric not in trainer.callback_metrics:
            return
        epoch, value = trainer.current_epoch + 1, float(trainer.callback_metrics[self.metric])
        behind = trainer.is_global_zero and self._is_behind(epoch, value)
        if trainer.strategy.broadcast(behind) and epoch != trainer.max_epochs:
            self.is_pruned = trainer.should_stop = True
            if trainer.is_global_zero:
                (self.stage / PRUNED).write_text(json.dumps({"epoch": epoch, self.metric: value}))

    def _is_behind(self, epoch: int, value: float) -> bool:
        own = {**_evaluations(self.job), str(epoch): value}
        (self.job / EVALUATIONS).write_text(json.dumps(own))
        finished = [file.parent for file in self.job.parent.glob("*/metrics.json") if file.parent != self.job]
        others = [found[str(epoch)] for job in finished if str(epoch) in (found := _evaluations(job))]
        if epoch <= self.after_epochs or len(others) < max(1, self.after_trials):
            return False
        best = max(self.sign * known for at, known in own.items() if int(at) <= epoch)
        return best < statistics.median(self.sign * other for other in others)


def _evaluations(job: Path) -> dict[str, float]:
    """Epochs done -> value, of one job."""
    file = job / EVALUATIONS
    found: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
    return found
