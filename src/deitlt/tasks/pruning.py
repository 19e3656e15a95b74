"""What a stage reports to the Optuna search that it is a trial of."""

import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import lightning as L

from deitlt.callbacks import Pruning
from deitlt.tasks.processes import TRIAL_VARIABLE
from deitlt.tasks.stage_config import StageConfig

Plain = dict[str, Any]


def build_pruning(stage: StageConfig) -> Pruning | None:
    """The callback that lets the search stop this stage; None outside a search, and for stages it does not judge."""
    trial = json.loads(os.environ.get(TRIAL_VARIABLE, "null"))
    if trial is None or trial["stage"] != stage.name or trial["after_trials"] is None:
        return None
    return Pruning(trial["metric"], _Judge(trial))


def find_pruning(callbacks: Sequence[L.Callback]) -> Pruning | None:
    """The callback among all of a stage's, if it is there."""
    return next((callback for callback in callbacks if isinstance(callback, Pruning)), None)


class _Judge:
    """Optuna's median pruner on a study in its storage.

    Args:
        trial: storage and study, of Optuna; number of the trial; direction; after_trials and after_epochs, before
            which no trial is stopped.
    """

    def __init__(self, trial: Plain) -> None:
        self.trial = trial

    def __call__(self, epoch: int, value: float) -> bool:
        """Tell Optuna the value after so many epochs; whether it is below the median of the trials before."""
        import optuna  # only where it is used: it is an extra

        optuna.logging.set_verbosity(logging.WARNING)
        pruner = optuna.pruners.MedianPruner(self.trial["after_trials"], self.trial["after_epochs"])
        study = optuna.load_study(study_name=self.trial["study"], storage=self.trial["storage"], pruner=pruner)
        found = {trial.number: trial for trial in study.trials}[self.trial["number"]]
        running = optuna.trial.Trial(study, found._trial_id)
        running.report(value, epoch)
        return bool(running.should_prune())
