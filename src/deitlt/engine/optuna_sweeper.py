"""Hydra's sweeper for Optuna, which knows pruned trials and goes on with a study that was interrupted."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from hydra.core.plugins import Plugins
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
from optuna.trial import Trial, TrialState

from deitlt.reports.sweep import PRUNED, read_job

DONE_STATES = (TrialState.COMPLETE, TrialState.PRUNED)  # a failed one may have been killed, and is made up for


def register() -> None:
    """Let Hydra make our sweeper where it would make its plugin's: it takes plugins from one package only."""
    optuna.logging.set_verbosity(logging.WARNING)
    logging.getLogger(OptunaSweeperImpl.__module__).setLevel(logging.CRITICAL)  # our table says which trials failed
    plugin = f"{OptunaSweeper.__module__}.{OptunaSweeper.__qualname__}"
    Plugins.instance().class_name_to_class[plugin] = ResumableOptunaSweeper


class ResumableOptunaSweeper(OptunaSweeper):
    """Takes what Hydra's plugin takes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sweeper: _Sweeper = _Sweeper(**options)

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that the study does not have yet, those first that were begun."""
        self.sweeper.go_on()
        try:
            self.sweeper.sweep(arguments)
        except ValueError as error:
            if "No trials are completed yet" not in str(error):  # our table says so, too
                raise


class _Sweeper(OptunaSweeperImpl):
    def go_on(self) -> None:
        """Count the trials that are done, and have those asked for again that were begun.

        A trial that goes from running to waiting keeps its number and parameters, and so its folder. One that failed
        stays failed, in Optuna's way, and is made up for by a new one.
        """
        Path(self.sweep_dir).mkdir(parents=True, exist_ok=True)  # for the study's file
        study = optuna.create_study(
            study_name=self.study_name, storage=self.storage, directions=self._get_directions(), load_if_exists=True
        )
        trials = study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state is TrialState.RUNNING:
                study._storage.set_trial_state(trial._trial_id, TrialState.WAITING)
        if trials and hasattr(self.sampler, "reseed_rng"):
            self.sampler.reseed_rng()  # from the same seed it would draw the first trials' parameters again
        self.n_trials = max(0, self.n_trials - sum(trial.state in DONE_STATES for trial in trials))

    def _configure_trials(self, trials: list[Trial], *spaces: Any) -> Sequence[Sequence[str]]:
        """Each trial's overrides, with its number: jobs are counted from 0 whenever a search goes on."""
        for trial in trials:
            if not isinstance(trial.study.tell, partial):
                told = partial(_tell, trial.study.tell, Path(self.sweep_dir))
                trial.study.tell = told  # type: ignore[method-assign]  # all trials share one study
        rows = super()._configure_trials(trials, *spaces)
        return [(*row, f"sweep.trial={trial.number}") for trial, row in zip(trials, rows, strict=True)]


def _tell(tell: Any, folder: Path, trial: Trial, values: Any = None, state: TrialState = TrialState.COMPLETE) -> None:
    """Tell the study how a trial ended; the plugin itself knows only those that complete and those that fail."""
    job = read_job(folder / str(trial.number))
    if state is TrialState.COMPLETE and job is not None and job.state == PRUNED:
        assert job.value is not None
        assert job.epochs is not None
        trial.report(job.value, job.epochs)  # again: Optuna keeps what another process has reported from this one
        tell(trial=trial, state=TrialState.PRUNED)  # its value is the last that was reported
    else:
        tell(trial=trial, values=values, state=state)
