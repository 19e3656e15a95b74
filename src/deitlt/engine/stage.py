"""One stage in this process, on every rank: train, choose the epoch by the protocol, test, write, draw and log."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from torch._dynamo.exc import BackendCompilerFailed

from deitlt.analysis import epochs_trained, rollouts_of
from deitlt.callbacks import MedianPruning, Throughput
from deitlt.checkpoints import read_checkpoint, refuse_changed
from deitlt.data import LongTailDataModule
from deitlt.engine.analysis import build_analysis
from deitlt.engine.build import (
    BEST,
    LAST,
    build_callbacks,
    build_data,
    build_loggers,
    build_module,
    build_spec,
    build_teacher,
    build_trainer,
    initialise_student,
    use_threads,
)
from deitlt.engine.examples import draw_views
from deitlt.engine.run_folder import RunFolder, keep_hits, write_json
from deitlt.engine.stage_config import GRAPHS, StageConfig, cpu_told
from deitlt.errors import Preempted, TrainingError
from deitlt.models import StudentNetwork, count_macs, count_parameters
from deitlt.modules import RAW, ClassifierModule
from deitlt.reports.analysis_figures import ANALYSIS_FOLDER, draw_analysis, draw_rollouts
from deitlt.reports.class_figures import MOST_CONFUSED, confusion_picture, per_class_accuracy
from deitlt.reports.figures import save_figure
from deitlt.reports.image_figures import RolloutExample
from deitlt.tracking import (
    StageNames,
    drawing,
    finished,
    first_line,
    holds_more,
    log_checkpoints,
    log_findings,
    log_pictures,
    pictures_in,
    stage_loggers,
    use_checkpoint,
    wandb_runs,
)

_ROLLOUTS = 6  # images of a stage's
GRAPHS_FAILED = "graphs_failed.txt"  # in a stage's folder: why it goes on without CUDA graphs


def run_stage(stage: StageConfig, console: Console) -> None:
    """Train one stage, from its last checkpoint if there is one, and write its result.json.

    Where CUDA graphs fail, it goes on compiled without them, in this process or, if the GPU is lost to it, in the next.

    Args:
        stage: it.
        console: where the first rank says how it goes.

    Raises:
        UserError: what cannot be done.
        Preempted, KeyboardInterrupt: it was stopped.
    """
    if stage.trainer["compile"] == GRAPHS:
        failed = Path(stage.folder) / GRAPHS_FAILED
        if not failed.exists():
            try:
                _run_stage(stage, console)
                return
            except RuntimeError as error:  # that a graph cannot hold a step shows when it is recorded, or played again
                reason = first_line(error)
            failed.write_text(f"{reason}\n")
            console.out(f"{stage.name}: CUDA graphs failed ({reason}); it goes on without them", highlight=False)
        stage = replace(stage, trainer={**stage.trainer, "compile": True})
    _run_stage(stage, console)


def _run_stage(stage: StageConfig, console: Console) -> None:
    use_threads(stage)
    torch.compiler.reset()  # graphs of an earlier stage's networks would count towards the limit of this one's
    folder = Path(stage.folder)
    last = folder / LAST
    L.seed_everything(stage.seed, verbose=False)  # fresh weights; training draws from generators of its own
    datamodule = build_data(stage)
    teacher = build_teacher(stage, datamodule)
    module = build_module(stage, datamodule.info, teacher)
    module.spec = build_spec(stage, datamodule).as_plain()
    module.watched = datamodule.watched
    if stage.teacher is not None and Path(stage.teacher).is_relative_to(folder.parent):  # the run's own
        refuse_changed(Path(stage.teacher), datamodule)
    loggers = _loggers(stage, last)
    with finished(loggers):
        callbacks = [*build_callbacks(stage, datamodule.info, console), *build_analysis(stage, teacher)]
        trainer = build_trainer(stage, callbacks, loggers, watches=bool(datamodule.watched))
        if not last.exists() and (started := initialise_student(stage, module, datamodule)):
            console.out(started, highlight=False)
        _log_beginning(stage, loggers)
        with _in_words(stage, trainer):
            trainer.fit(module, datamodule=datamodule, ckpt_path=last if last.exists() else None)
        if trainer.current_epoch % stage.checkpoint_every:
            trainer.save_checkpoint(last)  # the last epoch had none
        if any(isinstance(callback, MedianPruning) and callback.is_pruned for callback in callbacks):
            return
        _conclude(stage, trainer, module, datamodule)


@contextmanager
def _in_words(stage: StageConfig, trainer: L.Trainer) -> Iterator[None]:
    """Raise TrainingError for networks that cannot be compiled and a batch that does not fit; Ctrl-C stays Ctrl-C."""
    try:
        yield
    except (BackendCompilerFailed, torch.OutOfMemoryError) as error:
        if stage.trainer["compile"] == GRAPHS:
            raise
        raise _in_a_sentence(stage, error) from error
    except Preempted:
        raise
    except SystemExit as leaving:  # Lightning answers Ctrl-C with exit(1)
        if trainer.interrupted:
            raise KeyboardInterrupt from leaving
        raise


def _in_a_sentence(stage: StageConfig, error: RuntimeError) -> TrainingError:
    if isinstance(error, BackendCompilerFailed):
        lines = str(error.inner_exception).strip().splitlines() or [type(error.inner_exception).__name__]
        reason = lines[0].rstrip(".:")
        return TrainingError(f"The networks cannot be compiled ({reason}); type trainer.compile=false.")
    images = stage.batches.batch_size
    return TrainingError(
        f"The {stage.name}'s batch of {images} images does not fit into the GPU's memory; type "
        f"{stage.kind}.batch_size={max(1, images // 2)}: images per update stay, by accumulation."
    )


def _conclude(stage: StageConfig, trainer: L.Trainer, module: ClassifierModule, datamodule: LongTailDataModule) -> None:
    """Test the weights that the protocol reports, and write what was found."""
    folder, loggers = Path(stage.folder), trainer.loggers
    chosen = None if stage.protocol == "last" else folder / BEST  # None: the weights at hand
    module.results.pop("val", None)
    if "val" in datamodule.watched:  # the same weights on the validation split, too; its curve gets no point
        trainer.loggers = []
        trainer.validate(module, datamodule=datamodule, ckpt_path=chosen, verbose=False)
        trainer.loggers = loggers
    trainer.test(module, datamodule=datamodule, ckpt_path=chosen, verbose=False)
    if trainer.is_global_zero:
        reported = chosen or folder / LAST
        hits = {name: results.hits for name, results in module.results["test"].items()}
        keep_hits(RunFolder(folder.parent), stage.name, hits, datamodule)
        write_json(folder / "result.json", {**_result(module, trainer, reported), "cost": _cost(stage, module)})
        _draw_analysis(stage, module, datamodule, reported)
        views, seen = folder / "views.png", stage.name == "baseline" and "student" in stage.run["stages"]
        if stage.run.get("report", True) and not views.exists() and not seen:  # older runs have no such key
            with drawing("views"):
                draw_views(stage, views)
        _log_result(stage, loggers, module, datamodule, reported)


def _result(module: ClassifierModule, trainer: L.Trainer, reported: Path) -> dict[str, Any]:
    """What was found, and seconds: of training, those before a resume included; of this process's first step."""
    found = {type(callback): callback for callback in trainer.callbacks}  # type: ignore[attr-defined]
    timer, first = found[Timer], found[Throughput].first_step_seconds
    held_out = module.results.get("val", {})
    return {
        "networks": {
            name: {"accuracy": results.accuracy, "per_class": results.per_class}
            for name, results in module.results["test"].items()
        },
        "val": {name: results.accuracy for name, results in held_out.items()},
        "checkpoint": str(reported),
        "seconds": round(timer.time_elapsed("train"), 1),
        "first_step_seconds": None if first is None else round(first, 2),
    }


def _cost(stage: StageConfig, module: ClassifierModule) -> dict[str, Any]:
    """What was trained, and on how many images: what an accuracy is worth nothing without."""
    trainer = stage.trainer
    devices, is_gpu = trainer["devices"] * trainer["num_nodes"], trainer["accelerator"] == "gpu"
    model = torch.cuda.get_device_name() if is_gpu else cpu_told()[0] or "a CPU"
    threads = devices * torch.get_num_threads()
    on_cpu = f"{threads} {'thread' if threads == 1 else 'threads'} of {model}"
    return {
        "parameters": count_parameters(module.network),
        "macs": count_macs(module.network, stage.recipe["image_size"]),
        "images_seen": stage.recipe["epochs"] * sum(module.info.counts),
        "machine": f"{devices} x {model}" if is_gpu else on_cpu,
    }


def _names(stage: StageConfig) -> StageNames:
    """How a stage is called."""
    return StageNames(stage.name, Path(stage.folder), stage.group)


def _loggers(stage: StageConfig, last: Path) -> list[Logger]:
    """The stage's loggers, ready to go on after its last checkpoint, if there is one."""
    step = read_checkpoint(last)["global_step"] if last.exists() else None
    return [*stage_loggers(_names(stage), stage.run, stage.logger, step), *build_loggers(stage)]


@rank_zero_only
def _log_beginning(stage: StageConfig, loggers: Sequence[Logger]) -> None:
    """Log what is known before training: sample images, and which of W&B's artifacts teaches; at a resume once more.

    Nothing random of training's is drawn.
    """
    for logger in wandb_runs(loggers):
        if stage.teacher is not None and _keeps_checkpoints(stage):
            use_checkpoint(logger, Path(stage.teacher))
    if holds_more(loggers):
        with drawing("views"), torch.random.fork_rng():
            log_pictures(loggers, {"pictures/views": draw_views(stage, Path(stage.folder) / "views.png")})


def _keeps_checkpoints(stage: StageConfig) -> bool:
    """Whether the stage's W&B run gets its checkpoints as artifacts."""
    return bool((stage.logger.get("wandb") or {}).get("artifacts", True))


def _log_result(
    stage: StageConfig,
    loggers: Sequence[Logger],
    module: ClassifierModule,
    datamodule: LongTailDataModule,
    reported: Path,
) -> None:
    """Log what the stage found: its summary, tables and pictures by class, and in W&B its checkpoints.

    What fails of it is warned about: the stage is finished.

    Args:
        stage: the stage.
        loggers: its loggers.
        module: its module, tested.
        datamodule: its data.
        reported: the checkpoint that was tested.
    """
    if holds_more(loggers):
        pictures = {f"pictures/{path.stem}": path for path in _draw_classes(stage, module)}
        in_folder = pictures_in(Path(stage.folder) / ANALYSIS_FOLDER, "pictures/analysis")
        log_findings(loggers, module, datamodule.info, pictures | in_folder)
    for logger in wandb_runs(loggers) if _keeps_checkpoints(stage) else ():
        experiment = (stage.run.get("recipe") or {}).get("experiment") or stage.data["name"]
        metadata = {
            "stage": stage.name,
            "protocol": stage.protocol,
            "seed": stage.seed,
            "data": stage.data["name"],
            "imbalance_factor": stage.data["imbalance_factor"],
            "accuracy": module.results["test"][RAW].accuracy,
        }
        log_checkpoints(logger, _names(stage), str(experiment), reported, metadata)


def _draw_classes(stage: StageConfig, module: ClassifierModule) -> list[Path]:
    """Draw a tested stage's accuracy of each class, and of few classes their confusion, into its folder.

    One that fails is warned about, and absent.
    """
    info, recalls = module.info, module.results["test"][RAW].per_class
    classes = info.counts, info.class_names, info.groups
    if module.names_tokens:  # of the answers, the experts and their mean
        recalls = {token.upper(): recalls[token] for token in module.tokens}
    figures = {"per_class": partial(per_class_accuracy, recalls, *classes, stage.name)}
    for token in module.confusions if info.num_classes <= MOST_CONFUSED else ():
        name, label = (f"confusion_{token}", token.upper()) if module.names_tokens else ("confusion", "its answers")
        matrix = module.confusions[token].matrix(info.num_classes).numpy()
        figures[name] = partial(confusion_picture, matrix, *classes, f"{stage.name}, {label}: test images")
    drawn = []
    for name, draw in figures.items():
        with drawing(name):
            drawn.append(save_figure(draw(), Path(stage.folder) / f"{name}.png"))
    return drawn


def _draw_analysis(
    stage: StageConfig, module: ClassifierModule, datamodule: LongTailDataModule, reported: Path
) -> None:
    """Draw each part as it was measured last, and a student's rollouts on a few images of the same split.

    Nothing is drawn where nothing was measured, and nothing of the test set. What fails is warned about: the stage is
    finished.

    Args:
        stage: the stage.
        module: its module, with the weights that are reported.
        datamodule: its data.
        reported: the checkpoint of these weights.
    """
    folder, title = Path(stage.folder) / ANALYSIS_FOLDER, f"{datamodule.title}, {stage.name}"
    analysis: dict[str, Any] = {}
    with drawing("analysis"):
        for path in sorted(folder.glob("epoch_*.json")):
            analysis |= json.loads(path.read_text())
        if analysis:
            draw_analysis(analysis, datamodule.info, [], folder, title)
    with drawing("rollout"):
        if analysis and isinstance(module.network, StudentNetwork):
            found = rollouts_of(module.network, datamodule, analysis["split"], _ROLLOUTS)
            rows = [RolloutExample(*rollout) for rollout in found if rollout is not None]
            draw_rollouts(rows, analysis["split"], epochs_trained(reported), folder, title)
