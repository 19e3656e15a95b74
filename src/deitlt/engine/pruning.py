"""What a stage reports to the Optuna search that it is a trial of."""

import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import lightning as L

from deitlt.callbacks import Pruning
from deitlt.engine.processes import TRIAL_VARIABLE
from deitlt.engine.stage_config import StageConfig

Plain = dict[str, Any]
_log = logging.getLogger(__name__)


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
        """Tell Optuna the value after so many epochs; whether it is below the median of the trials before.

        A storage that cannot be asked costs this look, and not the trial, which may have cost hours.
        """
        from optuna.exceptions import StorageInternalError  # only where it is used: it is an extra
        from sqlalchemy.exc import SQLAlchemyError  # while a storage is opened

        try:
            return self._ask(epoch, value)
        except (StorageInternalError, SQLAlchemyError) as error:
            reason = str(error.__cause__ or error).partition("\n")[0]
            _log.warning("The search could not be asked after epoch %d (%s); training goes on.", epoch, reason)
            return False

    def _ask(self, epoch: int, value: float) -> bool:
        import optuna

        optuna.logging.set_verbosity(logging.WARNING)
        pruner = optuna.pruners.MedianPruner(self.trial["after_trials"], self.trial["after_epochs"])
        study = optuna.load_study(study_name=self.trial["study"], storage=self.trial["storage"], pruner=pruner)
        found = {trial.number: trial for trial in study.trials}[self.trial["number"]]
        running = optuna.trial.Trial(study, found._trial_id)
        running.report(value, epoch)
        return bool(running.should_prune())
