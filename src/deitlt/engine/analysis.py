"""A run's networks analysed: by `deitlt analyze` when they are trained, and by a callback meanwhile."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from torch import Tensor
from yaml import YAMLError

from deitlt.analysis import (
    PARTS,
    PASS_PARTS,
    TEACHER_PARTS,
    analyse,
    as_csv,
    epochs_trained,
    finite,
    rollouts_of,
    scalars,
    split_of,
    training_sharpness,
)
from deitlt.callbacks import AnalysisWhileTraining
from deitlt.checkpoints import TrainedNetwork, find_checkpoint, read_checkpoint
from deitlt.config.trust import refuse_strange_targets
from deitlt.data import LongTailDataModule
from deitlt.data.samplers import choose_evenly
from deitlt.engine.build import build_data, build_teacher
from deitlt.engine.run_folder import write_json, write_text
from deitlt.engine.stage_config import STAGE_FILE, STAGES, StageConfig, epochs_between, plain
from deitlt.engine.teacher_agreement import teacher_agreement
from deitlt.engine.trained import open_data, open_trained
from deitlt.errors import CheckpointError, ConfigError
from deitlt.models import StudentNetwork
from deitlt.modules import FrozenTeacher
from deitlt.reports.analysis_figures import ANALYSIS_FOLDER, draw_analysis
from deitlt.reports.image_figures import RolloutExample
from deitlt.reports.runs import Sample
from deitlt.reports.tables import analysis_lines, analysis_table, terminal
from deitlt.tracking import (
    HUB,
    Begin,
    StageNames,
    finished,
    hints,
    log_pictures,
    log_summary,
    open_loggers,
    pictures_in,
    settle_mode,
)

Plain = dict[str, Any]
JSON, CSV, ALL = "analysis.json", "analysis.csv", "all"


def build_analysis(stage: StageConfig, teacher: FrozenTeacher | None) -> list[AnalysisWhileTraining]:
    """The callback; none where it is switched off, or in a run that was begun before there was one."""
    options = stage.run.get("analysis")
    if options is None or options["every"] is None:
        return []
    asked = None if teacher is None else partial(ask_teacher, stage, options["images"], teacher)
    folder = Path(stage.folder)
    every = epochs_between(options["every"], stage.recipe, "analysis.every")
    return [AnalysisWhileTraining(folder, every, options["images"], options["parts"], agreement=asked)]


def ask_teacher(
    stage: StageConfig,
    images: int,
    teacher: FrozenTeacher,
    datamodule: LongTailDataModule,
    device: torch.device | None = None,
) -> Plain:
    """The agreement of a student's teacher with the truth, as the analysis holds it.

    Args:
        stage: the student's.
        images: training images at most.
        teacher: the student's.
        datamodule: the student's data.
        device: where to; None is where the data module's trainer trains, and without one the CPU.
    """
    if device is None and datamodule.trainer is not None:
        device = datamodule.trainer.strategy.root_device

    def output(student_images: Tensor) -> Tensor:
        return teacher.output(teacher.input(student_images))  # not hard labels, which hide a NaN

    return teacher_agreement(stage, datamodule, output, images, device)


@dataclass(frozen=True)
class Model:
    """A trained network to analyse.

    name: 'teacher', 'student' or 'baseline'. stage: what it was trained with, where the run says so. folder: where
    its analysis goes.
    """

    name: str
    trained: TrainedNetwork
    stage: StageConfig | None
    folder: Path

    @property
    def lacks(self) -> dict[str, str]:
        """Part -> why this network has none of it."""
        if self.trained.spec.kind == "teacher":
            names_none = {} if hasattr(self.trained.network, "get_classifier") else {"rank": "it names no classifier"}
            return names_none | {part: "it is a teacher" for part in PARTS if part not in TEACHER_PARTS}
        network, missing = self.trained.network, dict[str, str]()
        if not isinstance(network, StudentNetwork):
            parts = ("attention", "rank", "diversity", "winners", "rollout")
            missing = dict.fromkeys(parts, "it is no transformer of timm's")
        elif "dist" not in network.tokens:
            missing = dict.fromkeys(("diversity", "winners"), "it has no DIST token")
        if self.stage is None:
            missing["agreement"] = f"no {STAGE_FILE} beside it says what its teacher was shown"
        elif not self.stage.distils:
            missing["agreement"] = "nobody taught it"
        return missing

    @property
    def run(self) -> Path:
        """The run's folder; without one the analysis' own."""
        return self.folder if self.stage is None else self.trained.path.parent.parent


def analyse_run(config: DictConfig) -> None:
    """Analyse each network of a run, or one checkpoint; write its JSON, CSV and pictures, print a table.

    Raises:
        ConfigError: for a part that none of the networks has, or a split that the data lack.
        CheckpointError: if there is no checkpoint, or it cannot be read.
    """
    console = Console()
    models = find_models(config)
    given = [config.parts] if isinstance(config.parts, str) else list(config.parts)
    parts = [part for part in PARTS if part in given or ALL in given]
    if ALL not in given:
        check_parts(parts, models)
    opened = [(model, open_data(config, model.trained.spec)) for model in models]
    for _, datamodule in opened:
        split_of(datamodule, config.split)  # before the first network is measured for an hour
    for model, datamodule in opened:
        if ALL in given and model.trained.spec.kind == "student":
            _say_what_is_left_out(model, console)
        _analyse(replace(model, trained=model.trained.in_order_of(datamodule.info)), datamodule, parts, config, console)
    for folder in dict.fromkeys(model.run for model in models):
        for hint in hints(config.logger, folder):
            _say(hint, console)


def find_models(config: DictConfig) -> list[Model]:
    """The networks to analyse: of a run's folder each stage that has a checkpoint, else the one."""
    given = Path(config.checkpoint)
    own = sorted(path.parent.name for path in given.glob("*/last.ckpt"))  # stages of the user's own among them
    held = [name for name in dict.fromkeys((*STAGES, *own)) if any((given / name).glob("*.ckpt"))]
    if config.stage != ALL or not held:
        if config.checkpoint.startswith(HUB) and not config.folder:
            raise ConfigError(f"checkpoint={config.checkpoint} has no folder of yours; type folder=FOLDER beside it.")
        place = find_checkpoint(config.checkpoint, STAGES if config.stage == ALL else (config.stage,), "stage")
        return [_model(config, place, Path(config.folder) if config.folder else place.parent)]
    chosen = [find_checkpoint(given, (name,)) for name in held]
    folders = [Path(config.folder) / path.parent.name if config.folder else path.parent for path in chosen]
    return [_model(config, path, folder) for path, folder in zip(chosen, folders, strict=True)]


def _model(config: DictConfig, path: Path, folder: Path) -> Model:
    ema = config.ema and path.parent.name != "teacher"  # of a run's networks the student's alone has one
    trained = open_trained(config, path, ema)
    stage = _stage_beside(trained.path, config.data_root)
    return Model(stage.name if stage is not None else trained.spec.kind, trained, stage, folder)


def _stage_beside(checkpoint: Path, data_root: str | None) -> StageConfig | None:
    """What a checkpoint was trained with, with its data and its teacher where they are now; None if nobody says.

    Raises:
        ConfigError: if the file would call what it may not.
    """
    path = checkpoint.parent / STAGE_FILE
    if not path.is_file():
        return None
    try:
        stage = StageConfig.load(path)
    except (TypeError, AssertionError, YAMLError, OmegaConfBaseException) as error:
        raise CheckpointError(f"{path} is no stage that this version can read; delete it to go on without.") from error
    refuse_strange_targets(asdict(stage) | {"run": {**stage.run, "recipe": None}}, str(path))
    teacher = stage.teacher
    if teacher is not None and not Path(teacher).exists():  # the whole run was moved
        teacher = str(find_checkpoint(checkpoint.parents[1], ("teacher",)))
    one = {"devices": 1, "strategy": "auto", "precision": "32-true", "compile": False}
    data = stage.data if data_root is None else {**stage.data, "root": data_root}
    return replace(stage, trainer={**stage.trainer, **one}, teacher=teacher, data=data)


def check_parts(parts: Sequence[str], models: Sequence[Model]) -> None:
    """Raise ConfigError where a part that was asked for can be measured on none of the networks."""
    if not parts:
        raise ConfigError(f"parts=[] measures nothing; type parts=[rank], say, of {', '.join(PARTS)}.")
    for part in parts:
        reasons = [model.lacks.get(part) for model in models]
        if None not in reasons:
            names = ", ".join(str(model.trained.path) for model in models)
            fitting = [p for p in PARTS if any(p not in model.lacks for model in models)]
            raise ConfigError(
                f"parts has {part}, but of {names} it cannot be measured, for {reasons[-1]}; type parts=all, or of "
                f"{', '.join(fitting)}."
            )


def _analyse(
    model: Model, datamodule: LongTailDataModule, parts: Sequence[str], config: DictConfig, console: Console
) -> None:
    """Measure one network, write and draw what was found, say it."""
    wanted = [part for part in parts if part not in model.lacks]
    measured = _measure(model, datamodule, wanted, config)
    unranked = measured.get("images") == 1 and measured.pop("rank", None) is not None
    analysis: Plain = finite(measured)
    lost = [part for part, content in measured.items() if part not in analysis or analysis[part] != content]
    rows = []
    if "rollout" in wanted:
        network = model.trained.network
        assert isinstance(network, StudentNetwork)
        found = rollouts_of(network, datamodule, config.split, config.rollout.images, model.trained.class_order)
        rows = [RolloutExample(*rollout) for rollout in found if rollout is not None]
        lost += ["rollout"] if None in found else []
    if lost:
        said = f"{model.name}: what is NaN or infinite is left out of {', '.join(lost)}; look at the run's losses."
        _say(said, console, style="yellow")
    title, place = f"{datamodule.title}, {model.name}", model.folder
    pictures = draw_analysis(analysis, datamodule.info, rows, place / ANALYSIS_FOLDER, title)
    write_json(place / JSON, analysis)
    write_text(place / CSV, as_csv(analysis))
    seen = f"{title}: {Sample(analysis['split'], analysis['images'])}" if "images" in analysis else title
    if (table := analysis_table({"": [analysis]}, seen)) is not None:
        console.print(terminal(table))
    for line in analysis_lines(analysis):
        _say(line, console)
    if unranked:
        _say(f"{model.name}: no rank, for one image has none; type images=2 or more", console)
    seconds = ", ".join(f"{part} {value:.1f}" for part, value in analysis["seconds"].items())
    _say(f"seconds: {seconds or 'none'}", console)
    _say(f"more: {place / JSON}, {place / CSV}, {len(pictures)} pictures in {place / ANALYSIS_FOLDER}", console)
    if any(node is not None for node in config.logger.values()):
        _log(analysis, model, plain(config.logger))


def _measure(model: Model, datamodule: LongTailDataModule, parts: Collection[str], config: DictConfig) -> Plain:
    """Measure parts that a network has: the analysis in plain values, without what was not measured."""
    trained, info, seconds = model.trained, datamodule.info, dict[str, float]()
    found: Plain = {"kind": trained.spec.kind, "checkpoint": str(trained.path)}
    if (epoch := epochs_trained(trained.path)) is not None:
        found["epoch"] = epoch
    found["split"] = config.split
    order, scale = trained.class_order, trained.spec.logit_scale
    if of_pass := [part for part in parts if part in PASS_PARTS]:
        source = split_of(datamodule, config.split)
        images = len(source) if config.images == ALL else config.images
        chosen = np.sort(choose_evenly(source.labels, images, seed=0))
        batches = datamodule.evaluation_batches(source, chosen, config.batch_size, config.num_workers)
        with _timed(seconds, "pass"):
            found |= {"images": len(chosen), **analyse(trained.network, batches, info, of_pass, order, scale)}
    if "agreement" in parts:
        assert model.stage is not None
        with _timed(seconds, "agreement"):
            shown = build_data(model.stage)  # made as in training
            shown.setup()
            teacher = build_teacher(model.stage, shown)
            assert teacher is not None
            found |= ask_teacher(model.stage, config.agreement.images, teacher, shown, trained.device)
    if "sharpness" in parts:
        with _timed(seconds, "sharpness"):
            found["sharpness"] = training_sharpness(
                trained.network, datamodule, class_order=order, logit_scale=scale, **config.sharpness
            )
    return found | {"seconds": seconds}


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds[part] = round(time.monotonic() - began, 2)


def _say_what_is_left_out(model: Model, console: Console) -> None:
    """One line for what a student might be expected to have, and has not."""
    reasons: dict[str, list[str]] = {}
    for part, reason in model.lacks.items():
        reasons.setdefault(reason, []).append(part)
    if reasons:
        said = "; ".join(f"no {' and '.join(parts)}, for {reason}" for reason, parts in reasons.items())
        _say(f"{model.name}: {said}", console)


def _say(line: str, console: Console, style: str | None = None) -> None:
    if line:
        console.print(line, style=style, highlight=False, soft_wrap=True, markup=False)


def _log(analysis: Plain, model: Model, options: Plain) -> None:
    """Log numbers as final/analysis/... and pictures as pictures/analysis/..., in the stage's run where it has one.

    They are of the reported weights and of the split that was asked for, so they are no points of the curves
    analysis/..., which training drew.
    """
    stage = model.stage
    names = StageNames(model.name, model.trained.path.parent, "analysis" if stage is None else stage.group)
    begin = Begin() if stage is None else Begin(read_checkpoint(model.trained.path)["global_step"])
    if (wandb := options.get("wandb")) is not None:
        options = {**options, "wandb": {**wandb, "mode": settle_mode(wandb["mode"])}}
    loggers = open_loggers(names, {} if stage is None else stage.run, options, model.run, begin)
    with finished(loggers):
        log_summary(loggers, {f"final/{name}": value for name, value in scalars(analysis).items()})
        log_pictures(loggers, pictures_in(model.folder / ANALYSIS_FOLDER, "pictures/analysis"))
