"""A stage's run in Weights & Biases: online where a key is known, else offline and ready for upload.

W&B watches a training and must never stop it: what fails there is warned about once, and training goes on.
`import wandb` takes half a second, so it happens where a run is made, not when this file is imported.
"""

import logging
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.errors import ConfigError, nearest

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

_log = logging.getLogger(__name__)
_warned: set[str] = set()  # what has failed before, so that a broken W&B fills no terminal
_MODES = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}


class StageWandbLogger(WandbLogger):
    """Lightning's W&B logger, but a failure in W&B is warned about once and training goes on.

    A metric is defined, as `define_metrics` says, when it is first logged.
    """

    _defined: frozenset[str] = frozenset()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics at a global step."""
        with _forgiving("metrics"):
            if new := metrics.keys() - self._defined:
                define_metrics(self.experiment, new)
                self._defined |= new
            super().log_metrics(metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Add a module's hyper-parameters to the run's configuration."""
        with _forgiving("hyper-parameters"):
            super().log_hyperparams(params)


def wandb_logger(
    project: str,
    entity: str | None,
    group: str | None,
    job_type: str,
    name: str,
    folder: Path,
    config: Mapping[str, Any],
    tags: Sequence[str] = (),
    mode: str | None = None,
    run_id: str | None = None,
) -> WandbLogger:
    """Begin the W&B run of one stage; a run that this process left open is finished first.

    Where W&B cannot be reached, the run is recorded offline.

    Args:
        project: W&B's project.
        entity: the user or team; None is the key's own.
        group: what the stages of one run have in common.
        job_type: the stage.
        name: the run's name.
        folder: where W&B's files go, as FOLDER/wandb.
        config: what the run was started with, resolved to plain containers.
        tags: words to filter by.
        mode: 'online', 'offline', 'disabled', or None for online where a key is known. The environment's
            WANDB_MODE wins over it.
        run_id: the id of an earlier run that this one goes on with.

    Raises:
        ConfigError: the mode is none of these.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # W&B reads it once, before any setting can be passed
    chosen = _mode(mode)
    folder.mkdir(parents=True, exist_ok=True)
    run: dict[str, Any] = {"entity": entity, "group": group, "job_type": job_type, "tags": list(tags)}
    make = partial(StageWandbLogger, name, folder, run_id, project=project, config=dict(config), **run)
    logger = make(mode=chosen)
    if _begin(logger) is False and chosen == "online":
        logger = make(mode="offline")
        _begin(logger)
    return logger


def define_metrics(run: "Run", names: Iterable[str] = ()) -> None:
    """Draw every metric against the epoch; the summary keeps the best and the last accuracy.

    W&B groups metrics by prefix. What stands under val/ and test/ are accuracies in percent, so the best is
    the greatest; of all others the summary keeps the last value.

    Args:
        run: the W&B run.
        names: metrics to define one by one: where two patterns match a name, W&B takes either, so that a
            pattern for test/* beside the one for all would hold only now and then.
    """
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")
    for name in sorted(names):
        if name.startswith(("val/", "test/")):
            run.define_metric(name, step_metric="epoch", summary="max,last")


@rank_zero_only
def log_per_class(logger: WandbLogger, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log the table 'per_class'.

    Args:
        logger: the stage's.
        rows: one a class, such as {'class': 'cat', 'train images': 50, 'group': 'tail', 'CLS': 12.5}; the
            first row's keys are the columns, and None is an empty cell.
    """
    with _forgiving("the table of classes"):
        import wandb

        columns: list[str | int] = list(rows[0]) if rows else []
        table = wandb.Table(columns=columns, data=[[row.get(str(column)) for column in columns] for row in rows])
        logger.experiment.log({"per_class": table})


@rank_zero_only
def log_picture(logger: WandbLogger, name: str, path: Path) -> None:
    """Log a picture's file under a name, such as 'pictures/views'."""
    with _forgiving("a picture"):
        import wandb

        logger.experiment.log({name: wandb.Image(str(path))})


@rank_zero_only
def finish(logger: WandbLogger) -> None:
    """Close the stage's run and wait for its upload: the next stage begins a run of its own."""
    with _forgiving("the end of a run"):
        logger.experiment.finish()


def upload_hint(folder: Path) -> str:
    """One line that says how to upload what was recorded offline in the folder or below it.

    Empty where nothing was.
    """
    runs = sorted(folder.glob("**/wandb/offline-run-*"))
    return f"wandb sync {' '.join(shlex.quote(str(run)) for run in runs)}" if runs else ""


def _mode(mode: str | None) -> str:
    wanted = os.environ.get("WANDB_MODE") or mode
    if wanted is None:
        return "online" if _has_key() else "offline"
    if wanted not in _MODES:
        source = "WANDB_MODE" if os.environ.get("WANDB_MODE") else "logger.wandb.mode"
        raise ConfigError(f"{source}={wanted!r} is no mode of W&B; {nearest(wanted, _MODES)}")
    return _MODES[wanted]


def _has_key() -> bool:
    """Whether W&B finds a key in the environment, in netrc or in its settings; asks nobody for one."""
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:  # W&B before `prompt`
        return bool(wandb.api.api_key)
    except wandb.Error as error:  # a key that cannot be one
        _log.warning("W&B records offline, for its key cannot be used: %s", error)
        return False


@rank_zero_only
def _begin(logger: WandbLogger) -> bool:
    """Start the logger's run on the first rank; False, with a warning, where that fails."""
    import wandb

    try:
        wandb.setup()  # now, so that it is silent before its first warning
        if wandb.run is not None:
            wandb.run.finish()
        define_metrics(logger.experiment)
    except Exception as error:  # see _forgiving
        _log.warning("W&B could not begin a run (what can be is recorded offline): %s", error)
        return False
    _log.info("W&B run: %s", getattr(logger.experiment, "url", None) or "recorded offline")
    return True


@contextmanager
def _forgiving(what: str) -> Iterator[None]:
    """Turn any error inside into one warning for each kind of thing that was logged."""
    try:
        yield
    except Exception as error:  # W&B's errors have no common base: sockets, protobuf, files
        if what not in _warned:
            _warned.add(what)
            _log.warning("W&B failed to record %s, and training goes on without: %s", what, error)
