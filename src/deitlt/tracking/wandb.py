"""A stage's run in Weights & Biases: online where a key and a server are, else offline and ready for upload.

docs/wandb.md lists the names of metrics, which the CSV files share. `import wandb` takes half a second, so it happens
only where it is used.
"""

import logging
import os
import shlex
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.errors import ConfigError, nearest
from deitlt.tracking.failures import first_line, forgiving, warn_once
from deitlt.tracking.interface import StageNames

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

_log = logging.getLogger(__name__)
PATIENCE, KEY_PATIENCE = 5.0, 10  # seconds for a server's first answer, and for its answer about a key
BEGIN_PATIENCE = 30  # seconds for a server to take a run
END_PATIENCE = 300  # seconds for the upload of what is left at a run's end, checkpoints among it
NO_KEY = "no key is known (type wandb login)"
RUN_ID = "wandb_run_id.txt"  # in a stage's folder: a resumed stage goes on with its run
_MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
_BEST = {"val/": "max,last", "test/": "max,last", "train/loss": "min,last", "analysis/calibration/": "min,last"}


class StageWandbLogger(WandbLogger):
    """Lightning's W&B logger, but a failure in W&B is warned about once and training goes on.

    A metric is defined, as `define_metrics` says, when it is first logged.
    """

    program, run_id_file = "W&B", RUN_ID
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

    @rank_zero_only
    def add_summary(self, values: Mapping[str, float]) -> None:
        """Put numbers into the run's summary."""
        self.experiment.summary.update(dict(values))

    @rank_zero_only
    def add_pictures(self, pictures: Mapping[str, Path]) -> None:
        """Log pictures' files in one row, by name."""
        import wandb

        if pictures:
            self.experiment.log({name: wandb.Image(str(path)) for name, path in pictures.items()})

    @rank_zero_only
    def add_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a table."""
        import wandb

        columns: list[str | int] = list(rows[0]) if rows else []
        table = wandb.Table(columns=columns, data=[[row.get(str(column)) for column in columns] for row in rows])
        self.experiment.log({name: table})

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """Close the stage's run, and wait for its upload."""
        folder = Path(self.experiment.dir).parent
        try:
            self.experiment.finish(exit_code=exit_code)
        except TimeoutError:
            hint = f"type wandb sync {shlex.quote(str(folder))} to go on"
            warn_once("the upload", f"W&B's upload was left after {END_PATIENCE} seconds; {hint}.")


def wandb_logger(
    names: StageNames, config: Mapping[str, Any], options: Mapping[str, Any], folder: Path
) -> StageWandbLogger:
    """Begin a stage's run in W&B, or go on with it; a run that this process left open is finished first.

    Where W&B cannot be reached, the run is recorded offline.

    Args:
        names: the stage's.
        config: what the run was started with, resolved to plain containers.
        options: of the configuration's logger.wandb: project, entity (None is the key's own), tags to filter by, and
            the mode as `settle_mode` found it.
        folder: where W&B's files go, as FOLDER/wandb.
    """
    keep_silent()
    known = names.folder / RUN_ID
    folder.mkdir(parents=True, exist_ok=True)
    make = partial(
        StageWandbLogger,
        f"{names.run}-{names.stage}",
        folder,
        known.read_text() if known.exists() else None,
        project=options["project"],
        entity=options["entity"],
        group=names.group,
        job_type=names.stage,
        tags=list(options["tags"]),
        config=dict(config),
        settings=_patience(),
    )
    logger = make(mode=options["mode"])
    if _begin(logger) is False and options["mode"] == "online":
        logger = make(mode="offline")
        _begin(logger)
    return logger


def define_metrics(run: "Run", names: Iterable[str] = ()) -> None:
    """Draw every metric against the epoch; the summary keeps the best and the last where one is better.

    Metrics are defined one by one: where two patterns match a name, W&B takes either, so that a pattern for test/*
    beside the one for all would hold only now and then.
    """
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")
    for name in sorted(names):
        for prefix, summary in _BEST.items():
            if name.startswith(prefix):
                run.define_metric(name, step_metric="epoch", summary=summary)


def upload_hint(folder: Path) -> str:
    """One line for a shell that uploads what was recorded offline in the folder or below it; '' where nothing was.

    An offline run names its checkpoints' files and holds no copy: the line's comment says that they are needed, too.
    """
    runs = sorted(folder.glob("**/wandb/offline-run-*"))
    typed = f"wandb sync {' '.join(shlex.quote(str(run)) for run in runs)}"
    return f"{typed}  # before the folder is moved: checkpoints are read from where they lie" if runs else ""


def settle_mode(mode: str | None) -> str:
    """The mode in which every stage of a run is recorded, found out within seconds before anything is trained.

    Left to itself W&B tries for a minute and a half to begin a run that no server will take, at each stage. Why the
    mode is not the one that was wanted is said once.

    Args:
        mode: 'online', 'offline', 'disabled', or None for online where a key is known. The environment's
            WANDB_MODE wins over it.

    Returns:
        'online', 'offline' or 'disabled'; 'offline' in place of 'online' where the server cannot be reached, or
        takes no key.

    Raises:
        ConfigError: the mode is none of these.
    """
    given = os.environ.get("WANDB_MODE")
    asked = given or mode
    if asked and asked not in _MODES:
        key = "WANDB_MODE" if given else "logger.wandb.mode"
        raise ConfigError(f"{key}={asked!r} is no mode of W&B; {nearest(asked, _MODES)}")
    chosen = _MODES[asked] if asked else "online" if has_key() else "offline"
    reason = why_not_online() if chosen == "online" else None if asked else NO_KEY
    if reason is None:
        return chosen
    warn_once("online", f"W&B records offline, to be uploaded later: {reason}")
    return "offline"


def has_key() -> bool:
    """Whether W&B finds a key in the environment, in netrc or in its settings; asks nobody for one."""
    keep_silent()
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:  # W&B before `prompt`
        return bool(wandb.api.api_key)
    except wandb.Error as error:  # a key that cannot be one
        warn_once("online", f"W&B records offline, for its key cannot be used: {error}")
        return False


def why_not_online() -> str | None:
    """Why no run can be recorded online at the moment, as half a sentence; None where one can.

    Takes `PATIENCE` + `KEY_PATIENCE` at most.
    """
    keep_silent()
    import wandb

    address = wandb.setup().settings.base_url
    if not _answers(address):
        return f"{address} cannot be reached"
    if not has_key():
        return NO_KEY
    try:
        # What was asked for is a key that the server takes; a server that says nothing is as good as none.
        if wandb.Api(timeout=KEY_PATIENCE).viewer is None:
            return f"{address} knows no such key"
    except Exception as error:  # see forgiving
        return f"{address} does not take the key ({first_line(error)})"
    return None


def keep_silent() -> None:
    """Keep W&B off the terminal. It reads the variable once, when it first does anything."""
    os.environ.setdefault("WANDB_SILENT", "true")


def _answers(address: str) -> bool:
    """Whether a server says anything at all."""
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE):
            return True
    except urllib.error.HTTPError:  # an answer, if not a friendly one
        return True
    except (OSError, ValueError):
        return False


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
