"""A Hydra sweeper that asks Optuna for each trial's values and tells it what came out.

Hydra looks for sweepers in the namespace `hydra_plugins` and nowhere else, so this file lies here. Optuna is imported
when a search begins: Hydra imports its plugins at the start of every command.
"""

import json
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

JOURNAL, STUDY = "study.log", "sweep"


class OptunaSweeper(Sweeper):
    """A search that goes on when the same command is typed again.

    The study is a journal file in the sweep's folder. A trial's job lies in the folder of its number; what came out of
    it is read from the job's file, so that pruned and failed trials are told from finished ones. A trial that was
    interrupted is proposed again and keeps its folder, so that its job goes on.

    Args:
        n_trials: trials that finish or are pruned, all commands together.
        n_jobs: trials at a time; as many as the launcher runs.
        seed: of the search.
        params: key -> a value, or what to search: interval(a, b), range(a, b, step), choice(...), tag(log, ...).
    """

    def __init__(self, n_trials: int, n_jobs: int, seed: int | None, params: DictConfig | None) -> None:
        self.n_trials, self.n_jobs, self.seed = n_trials, n_jobs, seed
        self.params: dict[str, Any] = {} if params is None else {str(key): params[key] for key in params}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that the study does not have yet, those first that were begun."""
        assert self.config is not None
        assert self.launcher is not None
        self.folder = Path(str(self.config.hydra.sweep.dir))
        self.folder.mkdir(parents=True, exist_ok=True)
        study = self._open_study()
        words = [f"{key}={value}" for key, value in self.params.items()]
        parsed = OverridesParser.create().parse_overrides([*words, *arguments])
        overrides = {override.get_key_element(): override for override in parsed}  # what is typed wins
        while (left := self.n_trials - _done(study)) > 0:
            trials = [study.ask() for _ in range(min(left, max(1, self.n_jobs)))]
            jobs = [trial.user_attrs.get("job", trial.number) for trial in trials]
            told = [[_proposed(trial, override) for override in overrides.values()] for trial in trials]
            together = jobs == list(range(jobs[0], jobs[0] + len(jobs)))
            for first in (0,) if together else range(len(jobs)):
                self.launcher.launch(told if together else [told[first]], initial_job_idx=jobs[first])
            states = [_tell(study, trial, self.folder / str(job)) for trial, job in zip(trials, jobs, strict=True)]
            if not any(states):  # a cause that the next trials would meet, too; the table says which
                return

    def _open_study(self) -> Any:
        """The study, with the trials that were interrupted waiting to be asked for again."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        assert self.config is not None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(self.folder / JOURNAL)))
        known = STUDY in optuna.get_all_study_names(storage)
        trials = optuna.load_study(study_name=STUDY, storage=storage).trials if known else []
        # From the same seed it would propose the first trials' values again.
        seed = None if self.seed is None else self.seed + len(trials)
        sampler = optuna.samplers.TPESampler(seed=seed)
        direction: Any = str(self.config.objective.direction)
        study = optuna.create_study(
            storage=storage, study_name=STUDY, direction=direction, sampler=sampler, load_if_exists=True
        )
        for trial in trials:
            if trial.state == optuna.trial.TrialState.RUNNING:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                study.enqueue_trial(trial.params, user_attrs={"job": trial.user_attrs.get("job", trial.number)})
        return study


def _done(study: Any) -> int:
    """Trials that finished or were pruned."""
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _proposed(trial: Any, override: Override) -> str:
    """The override with the value that a trial has for it."""
    if not override.is_sweep_override():
        return override.input_line or ""
    key, swept = override.get_key_element(), override.value()
    if isinstance(swept, IntervalSweep):
        whole = all(isinstance(end, int) for end in (swept.start, swept.end))
        suggest = trial.suggest_int if whole else trial.suggest_float
        return f"{key}={suggest(key, swept.start, swept.end, log='log' in swept.tags)}"
    if isinstance(swept, RangeSweep):
        steps = [float(value) if "." in value else int(value) for value in override.sweep_string_iterator()]
        suggest = trial.suggest_int if all(isinstance(value, int) for value in steps) else trial.suggest_float
        return f"{key}={suggest(key, steps[0], steps[-1], step=swept.step)}"
    assert isinstance(swept, ChoiceSweep)
    return f"{key}={trial.suggest_categorical(key, list(override.sweep_string_iterator()))}"


def _tell(study: Any, trial: Any, folder: Path) -> bool:
    """Tell the study how a trial's job ended; whether it gave a value."""
    from optuna.trial import TrialState

    job = json.loads((folder / "job.json").read_text()) if (folder / "job.json").exists() else {}
    evaluations = folder / "evaluations.json"
    reported: dict[str, float] = json.loads(evaluations.read_text()) if evaluations.exists() else {}
    for epochs, seen in reported.items():
        trial.report(seen, int(epochs))
    state, value = job.get("state"), job.get("value")
    if state == "finished" and value is not None:
        study.tell(trial, value)
    elif state == "pruned":
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, state=TrialState.FAIL)
    return state == "pruned" or (state == "finished" and value is not None)
