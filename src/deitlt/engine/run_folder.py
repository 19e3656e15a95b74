"""A run's folder: what lies where, who trains it, and what the run found: metrics.json, the table, the page."""

import fcntl
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deitlt.checkpoints import ModelSpec, write_atomically
from deitlt.data import LongTailDataModule
from deitlt.data.datasets import title_of
from deitlt.errors import CheckpointError, ConfigError
from deitlt.modules import RAW
from deitlt.reports.class_figures import per_class_accuracy
from deitlt.reports.comparison import TEST_HITS, Hits, series_name
from deitlt.reports.figures import save_figure
from deitlt.reports.page import report_html
from deitlt.reports.page_figures import DRAWN
from deitlt.reports.runs import PAGE, read_runs
from deitlt.reports.sweep import JOB_FILE
from deitlt.reports.tables import csv_text, data_name, per_class_table, results_lines, results_table, terminal
from deitlt.tracking import drawing
from deitlt.types import DataInfo

_log = logging.getLogger(__name__)
Plain = dict[str, Any]
PICTURE, PER_CLASS = "per_class.png", "per_class.csv"

PRUNED = "pruned.json"  # in a stage's folder: an Optuna search stopped it
AUTO = "auto"  # for `resume`: go on with the run in paths.output_dir, if one was begun there


@dataclass(frozen=True)
class RunFolder:
    """The files of one run: config.yaml, metrics.json, pictures, and a folder for each stage."""

    path: Path

    @staticmethod
    def of_job(config: DictConfig) -> "RunFolder":
        """Where this job writes: paths.output_dir, or the sweep's folder for this job, which Hydra has made."""
        job = HydraConfig.get()
        place = job.runtime.output_dir if job.mode == RunMode.MULTIRUN else config.paths.output_dir
        return RunFolder(Path(place).expanduser().absolute())

    @property
    def config(self) -> Path:
        """The configuration, resolved, that the run was started with."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """What the run found; written after its last stage."""
        return self.path / "metrics.json"

    @property
    def lock(self) -> Path:
        """Held by the process that trains the run; one that was killed leaves it, free to be taken."""
        return self.path / ".lock"

    @property
    def finished(self) -> bool:
        """Whether everything was written: a process that was killed after metrics.json may have drawn no page yet."""
        return self.metrics.exists() and not self.lock.exists()

    @property
    def log(self) -> Path:
        """What every rank said, and what libraries warned of."""
        return self.path / "run.log"

    @property
    def group(self) -> str:
        """The run's name, which its stages share in W&B; where it is a sweep's job, the sweep's."""
        folder = self.path.parent if (self.path / JOB_FILE).exists() else self.path
        return "-".join(folder.parts[-2:])

    def stage(self, name: str) -> Path:
        """The folder of one stage."""
        return self.path / name

    def result(self, name: str) -> Path:
        """What a stage found; written after its test, so it marks a finished stage."""
        return self.stage(name) / "result.json"

    @property
    def pruned(self) -> Path | None:
        """What a stage wrote that an Optuna search stopped, if it stopped one."""
        return next(iter(self.path.glob(f"*/{PRUNED}")), None)

    @property
    def can_be_resumed(self) -> bool:
        """Whether an epoch of some stage was finished."""
        return any(self.path.glob("*/last.ckpt"))

    def refuse_if_used(self) -> None:
        """Raise ConfigError where a run, finished or not, already lies here."""
        if self.metrics.exists():
            raise ConfigError(f"{self.path} holds a finished run; type another paths.output_dir=FOLDER.")
        if self.config.exists():
            advice = f"type resume={self.path} to go on with it" if self.can_be_resumed else "delete it"
            raise ConfigError(
                f"{self.path} holds a run that was begun; {advice}, or type another paths.output_dir=FOLDER."
            )

    def claim(self) -> "RunFolder":
        """This folder, named by the time, made now; or the next, `-2`, where another verb of this second has it."""
        for number in itertools.count(1):
            folder = self.path if number == 1 else self.path.with_name(f"{self.path.name}-{number}")
            folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                folder.mkdir()
                break
        return RunFolder(folder)

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """Gives what takes the folder for this process, for as long as the block lasts or the process lives.

        Taking it raises ConfigError where another process has it, and removes what a killed one left half-written.
        """
        with ExitStack() as held:

            def take() -> None:
                self.path.mkdir(parents=True, exist_ok=True)
                self._lock(held)
                held.callback(self.lock.unlink, missing_ok=True)
                for left in (*self.path.glob(".*.*"), *self.path.glob("*/.*.*")):
                    if left.suffix[1:].isdecimal():  # write_atomically's temporary file
                        left.unlink(missing_ok=True)

            yield take

    def _lock(self, held: ExitStack) -> None:
        """Lock the file `lock`, which says who has it; the system unlocks it when this process ends, however it does.

        Of two hosts that share a folder by NFS, Lustre or the like, the file system sees to it.
        """
        while True:
            file = held.enter_context(self.lock.open("a+"))
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's not shared with data workers
            except (BlockingIOError, PermissionError) as error:
                file.seek(0)
                raise ConfigError(
                    f"{self.path} is being trained by {file.read() or 'another process'}; wait for its end, or type "
                    "another paths.output_dir=FOLDER."
                ) from error
            except OSError as error:
                _log.warning(
                    "%s lies on a file system without locks (%s): no second process is kept from training there.",
                    *(self.path, error.strerror),
                )
            with suppress(FileNotFoundError):  # who had it may have removed it meanwhile, and a third made one
                if os.path.samestat(os.fstat(file.fileno()), self.lock.stat()):
                    break
        file.truncate(0)
        file.write(f"process {os.getpid()} on {gethostname()}")
        file.flush()

    def load_for_resume(self) -> DictConfig:
        """The configuration of a run that was begun and has a checkpoint to go on from.

        Raises:
            ConfigError: if there is no run here, or it is finished.
            CheckpointError: if no epoch was finished.
        """
        if self.finished:
            raise ConfigError(f"{self.path} holds a finished run; there is nothing to resume: see {self.metrics}.")
        if not self.path.is_dir() or not self.config.exists():
            raise CheckpointError(f"{self.path} holds no run; type resume=FOLDER with a folder that has a config.yaml.")
        if not self.can_be_resumed:
            raise CheckpointError(
                f"{self.path} holds no checkpoint to resume from: no epoch was finished; start it anew."
            )
        config = OmegaConf.load(self.config)
        assert isinstance(config, DictConfig)
        return config


def is_dated(config: DictConfig) -> bool:
    """Whether the run's folder is named by the time, by which nobody finds it again."""
    paths = OmegaConf.to_container(config.paths, resolve=False)
    assert isinstance(paths, dict)
    return "${now:" in str(paths["output_dir"]) and HydraConfig.get().mode != RunMode.MULTIRUN


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON, whole or not at all."""
    text = json.dumps(content, indent=2, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode()))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))


def collect(config: DictConfig, info: DataInfo, results: Mapping[str, Plain], changed: list[str]) -> Plain:
    """The content of metrics.json: each part only if it was trained, percent, plain values."""
    metrics: Plain = {
        "experiment": config.recipe.experiment,
        "method": config.recipe.method,
        "data": title_of(config.data),
        "imbalance_factor": config.data.imbalance_factor,
        "seed": config.seed,
    }
    held_out: Plain = {}
    for stage, result in results.items():
        for network, found in result["networks"].items():
            metrics[_part(stage, network)] = _accuracy(stage, found["accuracy"])
        for network, accuracy in result.get("val", {}).items():
            held_out[_part(stage, network)] = _accuracy(stage, accuracy)
    if held_out:
        metrics["val"] = held_out
    return metrics | {
        "protocol": config.protocol,
        **_classes(info),
        "recipe_differences": changed,
        "seconds": {stage: result["seconds"] for stage, result in results.items()},
        "cost": {stage: result["cost"] for stage, result in results.items() if "cost" in result},
        "checkpoints": {stage: result["checkpoint"] for stage, result in results.items()},
        "versions": {name: version(name) for name in ("deitlt", "torch", "lightning", "timm")},
    }


def collect_evaluation(spec: ModelSpec, data: LongTailDataModule, results: Mapping[str, Plain], path: str) -> Plain:
    """The content of metrics.json for one checkpoint that was measured on `data`."""
    accuracy = results[spec.kind]["networks"][RAW]["accuracy"]
    return {
        "data": data.title,
        "imbalance_factor": spec.data["imbalance_factor"],
        spec.kind: accuracy["cls"] if spec.kind == "teacher" else accuracy,
        "protocol": spec.protocol_of(Path(path).name),
        **_classes(spec.info),
        "checkpoints": {spec.kind: path},
    }


def _classes(info: DataInfo) -> Plain:
    return {
        "groups": {name: list(classes) for name, classes in info.groups.items()},
        "counts": list(info.counts),
        "class_names": list(info.class_names),
    }


def keep_hits(
    run: RunFolder, stage: str, hits: Mapping[str, Mapping[str, NDArray[np.bool_]]], data: LongTailDataModule
) -> None:
    """Write which test images a stage answered right beside what the run's other stages did, whole or not at all.

    Args:
        run: whose file it is.
        stage: whose answers they are.
        hits: network -> token -> [N], in the order of the test set.
        data: they were asked about its test set.
    """
    images = hashlib.blake2b("\n".join(data.images["test"]).encode(), digest_size=8).hexdigest()
    right = {
        series_name(_part(stage, network), "" if stage == "teacher" else token): found
        for network, tokens in hits.items()
        for token, found in tokens.items()
    }
    fresh = Hits(images, data.splits.test.labels, right)
    with suppress(ConfigError):  # what cannot be read is written anew
        if (before := Hits.load(run.path / TEST_HITS)) is not None and before.same_images(fresh):
            fresh = replace(fresh, right={**before.right, **right})
    write_atomically(run.path / TEST_HITS, fresh.save)


def series(results: Mapping[str, Plain]) -> dict[str, list[float | None]]:
    """Per-class recalls in percent of everything that was tested, by the name that pictures use."""
    names: dict[str, list[float | None]] = {}
    for stage, result in results.items():
        for network, found in result["networks"].items():
            suffix = "" if network == RAW else f" ({network.upper()})"
            for token, recalls in found["per_class"].items():
                names[f"{_label(stage, token)}{suffix}"] = recalls
    return names


def write_results(metrics: Plain, results: Mapping[str, Plain], run: RunFolder) -> None:
    """Write the per-class table, metrics.json, and the table's picture, whose failure is a warning, in that order."""
    recalls = series(results)
    write_text(run.path / PER_CLASS, csv_text(per_class_table(metrics, recalls)))
    write_json(run.metrics, metrics)
    with drawing(PICTURE):
        figure = per_class_accuracy(
            {name: values for name, values in recalls.items() if name in DRAWN},
            metrics["counts"],
            metrics["class_names"],
            metrics["groups"],
            data_name(metrics),
        )
        save_figure(figure, run.path / PICTURE)


def show(metrics: Plain, run: RunFolder, console: Console) -> None:
    """Print the table, and where the rest lies."""
    console.print(terminal(results_table(metrics, data_name(metrics))))
    more = ", ".join(str(path) for path in (run.metrics, run.path / PICTURE) if path.exists())
    for line in [*results_lines(metrics), f"more: {more}"]:
        console.out(line, highlight=False)


def write_run_report(run: RunFolder, console: Console) -> None:
    """Write a finished run's page, and say where it lies; what goes wrong is said, and loses no run."""
    page = run.path / PAGE
    try:
        write_text(page, report_html(read_runs([run.path])))
        said = f"report: {page}"
    except Exception as error:  # whatever it is: the run is finished, and its numbers are written
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        said = f"no report was written ({reason[0]}); type deitlt report {run.path} --html={page} when that is mended."
    console.out(said, highlight=False)


def _accuracy(stage: str, tokens: Plain) -> Plain:
    """A teacher has one answer, so its accuracies need no token's name."""
    answer: Plain = tokens["cls"] if stage == "teacher" else tokens
    return answer


def _part(stage: str, network: str) -> str:
    return stage if network == RAW else f"{stage}_{network}"


def _label(stage: str, token: str) -> str:
    if stage == "teacher":
        return "teacher"
    return "plain ViT" if stage == "baseline" else token.upper()
