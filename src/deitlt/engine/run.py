"""A run's life: it is opened or gone on with, checked, its stages are trained, and its results written."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deitlt.checkpoints import write_atomically
from deitlt.config.compose import (
    PATHS,
    RECIPE_CHOICES,
    SWEEP_JOB,
    compose_with,
    differences,
    in_typed_words,
    leaves,
    make_absolute,
)
from deitlt.config.trust import refuse_strange_targets, trust
from deitlt.data.datasets import title_of
from deitlt.engine.build import LAST
from deitlt.engine.checks import Checked, check_whole
from deitlt.engine.launch import from_first_rank, is_first, join
from deitlt.engine.logs import RunConsole, run_log
from deitlt.engine.run_folder import AUTO, PRUNED, RunFolder, collect, is_dated, show, write_results, write_run_report
from deitlt.engine.stage import run_stage
from deitlt.engine.stage_config import STAGE_FILE, Plain, StageConfig, plain, with_teacher
from deitlt.errors import CheckpointError, ConfigError
from deitlt.tracking import SERVER, fetch, hints, is_fetched

RESUME_KEYS = ("resume", "trust", "data.root", "teacher.checkpoint")  # that may be typed for a run that goes on
_NAMED = 10  # broken files; of more, the run's configuration has the names


@dataclass(frozen=True)
class Run:
    """A run, in each of its ranks; the first one looks, writes and speaks.

    folder: where it lies. config: its configuration. changed: what that changes in its recipe, a line each.
    """

    folder: RunFolder
    config: Plain
    changed: list[str]

    def train(self) -> None:
        """Look for everything that can be wrong, train every stage that has no result yet, write what was found.

        Raises:
            UserError: what cannot be done.
            Preempted, KeyboardInterrupt: it was stopped.
        """
        trust(self.config.get("trust", ()))  # in a rank that was started for it, too
        join(self.config["trainer"]["accelerator"])
        console = RunConsole(quiet=not is_first())
        with self.folder.held() as hold:
            checked = from_first_rank(lambda: self._prepare(hold))
            rank = dist.get_rank() if dist.is_initialized() else 0
            with run_log(self.folder.log, rank):
                if is_first():
                    _announce(self, checked, console)
                if all(self._train_stage(stage, checked.config, console) for stage in checked.stages) and is_first():
                    self._conclude(checked, console)

    def _prepare(self, hold: Callable[[], None]) -> Checked:
        """Check the run before anything is written or trained; then take its folder by `hold`."""
        if is_begun := self.folder.config.exists():
            hold()
        checked = check_whole(OmegaConf.create(self.config), self.folder)
        if not is_begun:
            hold()
            self.folder.refuse_if_used()  # another process may have begun meanwhile
            text = OmegaConf.to_yaml(checked.config).encode()
            write_atomically(self.folder.config, lambda file: file.write(text))
        return checked

    def _train_stage(self, stage: StageConfig, config: DictConfig, console: Console) -> bool:
        """Train a stage to its end, if it has no result; whether the next one is to be trained."""

        def open_stage() -> StageConfig | None:
            if self.folder.result(stage.name).exists():
                return None
            (self.folder.stage(stage.name) / PRUNED).unlink(missing_ok=True)  # whoever resumes it wants it to its end
            opened, file = with_teacher(stage, config, self.folder), Path(stage.folder) / STAGE_FILE
            if file.exists() and (Path(stage.folder) / LAST).exists():
                _refuse_other_teacher(opened, StageConfig.load(file).teacher_digest)
            opened.save(file)
            return opened

        opened = from_first_rank(open_stage)
        if opened is None:
            return True
        try:
            run_stage(opened, console)
        except KeyboardInterrupt:
            advice = f"type deitlt train resume={self.folder.path}"
            console.out(
                f"interrupted; {advice if self.folder.can_be_resumed else 'no epoch was finished'}", highlight=False
            )
            raise
        pruned = from_first_rank(lambda: self.folder.pruned)
        if pruned is not None:
            console.out(f"{stage.name}: stopped by the search it is a trial of; see {pruned}", highlight=False)
        return pruned is None

    def _conclude(self, checked: Checked, console: Console) -> None:
        """Write metrics.json, tables and pictures, and print the table."""
        folder, config = self.folder, checked.config
        results = {stage.name: json.loads(folder.result(stage.name).read_text()) for stage in checked.stages}
        metrics = collect(config, checked.info, results, [*self.changed, *checked.changed])
        write_results(metrics, results, folder)
        show(metrics, folder, console)
        for hint in hints(config.logger, folder.path):
            console.out(hint, highlight=False)
        if config.get("report", True):  # older runs have no such key
            write_run_report(folder, console)


def _refuse_other_teacher(stage: StageConfig, digest: str | None) -> None:
    """Raise ConfigError where a student would go on with another teacher than it began with, by its weights' digest."""
    if digest not in (None, stage.teacher_digest):  # older runs know none
        raise ConfigError(
            f"{stage.teacher} is not the teacher that {stage.folder} learnt from so far, its weights are others; type "
            "teacher.checkpoint=FILE of that one beside resume=RUN, or begin anew with another paths.output_dir=FOLDER."
        )


def _announce(run: Run, checked: Checked, console: Console) -> None:
    """Say what is about to be trained, and where it departs from its recipe."""
    data, counts = checked.config.data, checked.info.counts
    lines = [
        f"run: {run.folder.path}",
        f"data: {title_of(data)}, {sum(counts)} training images in {len(counts)} classes, {max(counts)} to "
        f"{min(counts)} a class",
    ]
    asked, found = data.imbalance_factor, min(counts) / max(counts)
    if asked is not None and not 0.8 < found / asked < 1.25:
        lines.append(f"data: imbalance {1 / asked:g} was asked for, but the classes have images for {1 / found:.3g}")
    if excluded := data.get("exclude"):
        named = ", ".join(excluded[:_NAMED]) + (f", and more: see {run.folder.config}" if excluded[_NAMED:] else "")
        lines.append(f"data: {len(excluded)} broken image files are left out ({named})")
    lines += [f"{stage.name}: {stage.recipe['epochs']} epochs, {stage.batches}" for stage in checked.stages]
    lines += checked.doubts
    typed = in_typed_words(run.changed, run.config["recipe"]["overrides"])
    if SWEEP_JOB in os.environ:  # the sweep has said the job's words
        typed = [line for line in typed if line in run.changed]
    lines += [f"not as in the recipe: {change}" for change in (*typed, *checked.changed)]
    for line in lines:
        console.out(line, highlight=False)


def open_run(config: DictConfig) -> Run:
    """The run that is to be trained: a fresh one, the one that `resume=RUN` names, or by the same words one begun.

    Raises:
        ConfigError: another run lies there, the one that is to go on is finished or was begun with other words, or
            its folder cannot be found again.
        CheckpointError: there is nothing to go on with, or an artifact cannot be had.
    """
    if config.resume not in (None, AUTO):
        return _resumed(config, RunFolder(Path(config.resume).expanduser().absolute()))
    goes_on = config.resume == AUTO or int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0
    if goes_on and is_dated(config):
        asked = "resume=auto has" if config.resume == AUTO else "A run that torchrun may start again has"
        raise ConfigError(f"{asked} to know the run's folder; type paths.output_dir=FOLDER beside it.")
    folder = RunFolder.of_job(config)
    if goes_on and folder.config.exists():
        return _gone_on(config, folder)
    folder.refuse_if_used()
    return _fresh(config, folder)


def _fresh(config: DictConfig, folder: RunFolder, fetches: bool = True) -> Run:
    """A new run; without fetching, what is at W&B or on the Hub stays a name."""
    overrides = list(HydraConfig.get().overrides.task)
    choices = HydraConfig.get().runtime.choices
    changed = differences(config, compose_with("train", overrides, RECIPE_CHOICES))
    named = {"experiment": choices.get("experiment"), "method": choices.get("method")}
    config = OmegaConf.create({**plain(config), "recipe": {**named, "differences": changed, "overrides": overrides}})
    for key in PATHS:
        value = str(OmegaConf.select(config, key))
        if is_fetched(value) and fetches:  # once: a name may mean another version when the run is resumed
            OmegaConf.update(config, key, str(fetch(value)))
    make_absolute(config)
    return Run(folder, plain(config), changed)


def _resumed(config: DictConfig, folder: RunFolder) -> Run:
    """A run with the configuration that it was begun with, where its data and its teacher may have been moved."""
    typed = {word.partition("=")[0].lstrip("+"): word for word in HydraConfig.get().overrides.task}
    if others := [word for key, word in typed.items() if key not in RESUME_KEYS]:
        raise ConfigError(
            f"A resumed run keeps its own configuration, so {others[0]} has no place; type resume={folder.path} alone, "
            "or with data.root=FOLDER or teacher.checkpoint=FILE where the data or the teacher were moved."
        )
    content = plain(folder.load_for_resume()) | {
        "trust": list(config.trust)
    }  # typed now; what the file says is no proof
    if "data.root" in typed:
        if "root" not in content["data"]:
            raise ConfigError(f"The data {content['data']['name']} have no folder; leave out data.root.")
        _move_data(content["data"], Path(config.data.root).expanduser().absolute())
    given = content["teacher"]["checkpoint"]
    if word := typed.get("teacher.checkpoint"):
        make_absolute(config)
        content["teacher"]["checkpoint"] = config.teacher.checkpoint
        if given is None or config.teacher.checkpoint is None:
            has = "trains its own teacher" if given is None else "was begun with a teacher's checkpoint"
            raise ConfigError(f"{folder.path} {has}, so {word} has no place; type resume={folder.path} alone.")
    elif given is not None and not Path(given).exists():
        raise CheckpointError(
            f"The teacher {given} is not there any more; type teacher.checkpoint=FILE, where it was moved, beside "
            f"resume={folder.path}."
        )
    refuse_strange_targets(content | {"recipe": None}, str(folder.config))  # of words, which may be any
    _refuse_strange_server(content, folder)
    return Run(folder, content, content["recipe"]["differences"])  # what was looked at, and no interpolation


def _refuse_strange_server(content: Plain, folder: RunFolder) -> None:
    """Raise ConfigError where a run's folder names a server of MLflow's, which would get the user's password for it."""
    server = (content["logger"].get("mlflow") or {}).get("tracking_uri")
    if server and not str(server).startswith("sqlite:") and server != os.environ.get(SERVER):
        raise ConfigError(
            f"{folder.config} would log to {server}, and was refused; type {SERVER}={server} before deitlt where that "
            "is a server of yours."
        )


def _move_data(data: Plain, root: Path) -> None:
    """Have the data of a run lie in another folder, and with them the broken files that it leaves out."""
    old, data["root"] = data["root"], str(root)
    if not data.get("exclude"):
        return
    left_out = map(Path, data["exclude"])
    data["exclude"] = [str(root / file.relative_to(old) if file.is_relative_to(old) else file) for file in left_out]


def _gone_on(config: DictConfig, folder: RunFolder) -> Run:
    """A run that was begun by the very words that are typed again."""
    stored = OmegaConf.load(folder.config)
    assert isinstance(stored, DictConfig)
    content = plain(stored) | {"trust": list(config.trust)}
    refuse_strange_targets(content | {"recipe": None}, str(folder.config))  # of words, which may be any
    fresh = OmegaConf.create(_fresh(config, folder, fetches=False).config)  # an alias may mean another version now
    ours, theirs = leaves(fresh), leaves(stored)
    for key in PATHS:
        if is_fetched(ours.get(key)) and _typed(fresh, key) == _typed(stored, key):
            theirs[key] = ours[key]
    for key in sorted(ours.keys() | theirs.keys()):
        if not key.startswith(("resume", "trust", "recipe", "paths.", "data.exclude")) and ours.get(key) != theirs.get(
            key
        ):
            raise ConfigError(
                f"{folder.path} was begun with {key}={theirs.get(key)}, and {key}={ours.get(key)} cannot go on with "
                "it; type the same words, or another paths.output_dir=FOLDER."
            )
    return Run(folder, content, content["recipe"]["differences"])


def _typed(config: DictConfig, key: str) -> list[str]:
    """What was typed for a key; nothing where a file of the configuration says it."""
    overrides: list[str] = OmegaConf.select(config, "recipe.overrides", default=[])
    return [word for word in overrides if word.partition("=")[0].lstrip("+") == key]
