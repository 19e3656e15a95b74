"""A stage's run in MLflow: on the server that is named, else in RUN/mlflow/mlflow.db.

`import mlflow` takes seconds, so it happens only where it is used.
"""

import csv
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only

from deitlt.tracking.failures import forgiving
from deitlt.tracking.interface import Begin, OncePerStep, StageNames

FOLDER, DATABASE = "mlflow", "mlflow.db"  # in the run's
RUN_ID = "mlflow_run_id.txt"  # in a stage's folder: a resumed stage goes on with its run
SERVER = "MLFLOW_TRACKING_URI"  # environment variable, MLflow's own
# MLflow asks a dead server for minutes, seven times; that would hold up each epoch.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


class StageMLFlowLogger(MLFlowLogger):
    """Lightning's, but a row may come twice, the run stays open after training, and what fails is warned about.

    Args:
        begin: where the stage is taken up. MLflow forgets no point: what it has of steps that are trained once more is
            not logged again.
        **options: Lightning's.
    """

    program, run_id_file = "MLflow", RUN_ID

    def __init__(self, begin: Begin, **options: Any) -> None:
        super().__init__(**options)
        self._begin, self._once, self._known = begin, OncePerStep(), dict[str, set[int]]()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics at a global step."""
        with forgiving("metrics", self.program):
            self._log(metrics, self._step if step is None else step)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Leave the run open, for what is logged after training."""

    @rank_zero_only
    def add_summary(self, values: Mapping[str, float]) -> None:
        """Metrics of one point."""
        self._log(values, self._step)

    @rank_zero_only
    def add_pictures(self, pictures: Mapping[str, Path]) -> None:
        """Pictures' files as artifacts: 'pictures/views' is views.png in the folder pictures."""
        for name, path in pictures.items():
            self.experiment.log_artifact(self.run_id, str(path), name.rpartition("/")[0])

    @rank_zero_only
    def add_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table as a CSV artifact, which MLflow shows as a table."""
        text = StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.experiment.log_text(self.run_id, text.getvalue(), f"{name}.csv")

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """Close the run."""
        self.experiment.set_terminated(self.run_id, "FAILED" if exit_code else "FINISHED")

    @property
    def _step(self) -> int:
        return max(self._begin.step, self._once.step)

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        new = self._once.new(metrics, step)
        if self._begin.resumes:
            new = {name: value for name, value in new.items() if step not in self._logged(name)}
        if new:
            super().log_metrics(new, step)

    def _logged(self, name: str) -> set[int]:
        """The steps of which the earlier process has logged a metric."""
        if name not in self._known:
            self._known[name] = {point.step for point in self.experiment.get_metric_history(self.run_id, name)}
        return self._known[name]


def mlflow_logger(
    names: StageNames, config: Mapping[str, Any], options: Mapping[str, Any], folder: Path, begin: Begin
) -> StageMLFlowLogger:
    """Begin a stage's run in MLflow, or go on with it.

    Args:
        names: the stage's.
        config: what the run was started with, resolved to plain containers.
        options: of the configuration's logger.mlflow: experiment, tracking_uri.
        folder: where the database and what lies beside it go, as FOLDER/mlflow, where no server is named.
        begin: where the stage is taken up.

    Raises:
        Exception: of MLflow's and whatever it stands on, as a server that cannot be reached.
    """
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of each table that it makes
    place, known = folder / FOLDER, names.folder / RUN_ID
    uri = tracking_uri(options)
    if uri is None:
        place.mkdir(parents=True, exist_ok=True)
    logger = StageMLFlowLogger(
        begin,
        experiment_name=options["experiment"],
        run_name=f"{names.run}-{names.stage}",
        tracking_uri=uri or database(folder),
        artifact_location=None if uri else (place / "artifacts").as_uri(),
        tags={"group": names.group, "stage": names.stage},
        run_id=known.read_text() if known.exists() else None,
    )
    with _environment_kept():
        if known.exists():
            logger.experiment.update_run(logger.run_id, status="RUNNING")
            return logger
        with suppress(MlflowException):  # another job of a sweep may make the experiment in the same moment
            _ = logger.experiment
        _ = logger.experiment
    with forgiving("the configuration", logger.program):
        logger.log_hyperparams(dict(config))
    return logger


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Undo that MLflow, once it is told of a server, names it in the environment: the next run may have another."""
    before = os.environ.pop(SERVER, None)
    try:
        yield
    finally:
        os.environ.pop(SERVER, None)
        if before is not None:
            os.environ[SERVER] = before


def tracking_uri(options: Mapping[str, Any]) -> str | None:
    """The server, or a database of the user's, that was named; None for a run's own."""
    return options["tracking_uri"] or os.environ.get(SERVER) or None


def database(folder: Path) -> str:
    """MLflow's name of the database of a run's folder."""
    return f"sqlite:///{folder.absolute() / FOLDER / DATABASE}"
