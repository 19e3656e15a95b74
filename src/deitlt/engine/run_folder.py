"""A run's folder: what lies where, whether it is finished, and who trains it."""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from deitlt.checkpoints import write_atomically
from deitlt.errors import CheckpointError, ConfigError
from deitlt.reports.sweep import JOB_FILE

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
        """What the run found; written after its last stage, so it marks a finished run."""
        return self.path / "metrics.json"

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

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """Gives what takes the folder for this process, for as long as the block lasts or the process lives.

        Taking it raises ConfigError where another process has it, and removes what a killed one left half-written.
        """
        with ExitStack() as held:

            def take() -> None:
                self.path.mkdir(parents=True, exist_ok=True)
                lock = self.path / ".lock"
                file = held.enter_context(lock.open("w"))
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's not shared with data workers
                except OSError as error:
                    raise ConfigError(
                        f"{self.path} is being trained by another process; wait for its end, or type another "
                        "paths.output_dir=FOLDER."
                    ) from error
                held.callback(lock.unlink, missing_ok=True)
                for left in (*self.path.glob(".*.*"), *self.path.glob("*/.*.*")):
                    if left.suffix[1:].isdecimal():  # write_atomically's temporary file
                        left.unlink(missing_ok=True)

            yield take

    def load_for_resume(self) -> DictConfig:
        """The configuration of a run that was begun and has a checkpoint to go on from.

        Raises:
            ConfigError: if there is no run here, or it is finished.
            CheckpointError: if no epoch was finished.
        """
        if self.metrics.exists():
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


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON, whole or not at all."""
    text = json.dumps(content, indent=2, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode()))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))
