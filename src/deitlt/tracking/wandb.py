"""A stage's run in Weights & Biases: online where a key is known, else offline and ready for upload.

`import wandb` takes half a second, so it happens where a run is made, not when this file is imported.
"""

import logging
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.tracking.failures import forgiving, warn_once
from deitlt.tracking.modes import keep_silent, known_mode, wanted_mode
from deitlt.tracking.names import define_metrics

_log = logging.getLogger(__name__)
BEGIN_PATIENCE = 30  # seconds for a server to take a run
END_PATIENCE = 300  # seconds for the upload of what is left at a run's end, checkpoints among it


class StageWandbLogger(WandbLogger):
    """Lightning's W&B logger, but a failure in W&B is warned about once and training goes on.

    A metric is defined, as `define_metrics` says, when it is first logged.
    """

    _defined: frozenset[str] = frozenset()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics at a global step."""
        with forgiving("metrics"):
            if new := metrics.keys() - self._defined:
                define_metrics(self.experiment, new)
                self._defined |= new
            super().log_metrics(metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Add a module's hyper-parameters to the run's configuration."""
        with forgiving("hyper-parameters"):
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
        group: what the stages of one run, or all jobs of one sweep, have in common.
        job_type: the stage.
        name: the run's name.
        folder: where W&B's files go, as FOLDER/wandb.
        config: what the run was started with, resolved to plain containers.
        tags: words to filter by.
        mode: 'online', 'offline' or 'disabled', as `settle_mode` found it; None asks the environment.
        run_id: the id of an earlier run that this one goes on with.

    Raises:
        ConfigError: the mode is none of these.
    """
    keep_silent()
    chosen = wanted_mode(None) if mode is None else known_mode(mode, "logger.wandb.mode")
    folder.mkdir(parents=True, exist_ok=True)
    run: dict[str, Any] = {"entity": entity, "group": group, "job_type": job_type, "tags": list(tags)}
    make = partial(
        StageWandbLogger, name, folder, run_id, project=project, config=dict(config), settings=_patience(), **run
    )
    logger = make(mode=chosen)
    if _begin(logger) is False and chosen == "online":
        logger = make(mode="offline")
        _begin(logger)
    return logger


@rank_zero_only
def log_summary(logger: WandbLogger, values: Mapping[str, Any]) -> None:
    """Put values into the run's summary: numbers, words, or plain containers of them."""
    with forgiving("the summary"):
        logger.experiment.summary.update(dict(values))


@rank_zero_only
def finish(logger: WandbLogger, exit_code: int = 0) -> None:
    """Close the stage's run and wait for its upload: the next stage begins a run of its own.

    Args:
        logger: the stage's.
        exit_code: 0, or another where the stage did not come to its end; W&B shows the run as failed then.
    """
    with forgiving("the end of a run"):
        folder = Path(logger.experiment.dir).parent
        try:
            logger.experiment.finish(exit_code=exit_code)
        except TimeoutError:
            hint = f"type wandb sync {shlex.quote(str(folder))} to go on"
            warn_once("the upload", f"W&B's upload was left after {END_PATIENCE} seconds; {hint}.")


def upload_hint(folder: Path) -> str:
    """One line that says how to upload what was recorded offline in the folder or below it.

    Empty where nothing was.
    """
    runs = sorted(folder.glob("**/wandb/offline-run-*"))
    return f"wandb sync {' '.join(shlex.quote(str(run)) for run in runs)}" if runs else ""


def _patience() -> dict[str, Any]:
    """W&B's settings that keep a broken network from holding a run up, as far as its version has them."""
    import wandb

    wanted = {"init_timeout": BEGIN_PATIENCE, "finish_timeout": END_PATIENCE, "finish_timeout_raises": True}
    return {name: value for name, value in wanted.items() if name in wandb.Settings.model_fields}


@rank_zero_only
def _begin(logger: WandbLogger) -> bool:
    """Start the logger's run on the first rank; False, with a warning, where that fails."""
    import wandb

    try:
        wandb.setup()  # now, so that it is silent before its first warning
        if wandb.run is not None:
            wandb.run.finish()
        define_metrics(logger.experiment)
    except Exception as error:  # see forgiving
        warn_once("online", f"W&B could not begin a run (what can be is recorded offline): {error}")
        return False
    _log.info("W&B run: %s", getattr(logger.experiment, "url", None) or "recorded offline")
    return True
