"""Measures the training of stages: the input alone, the step alone, the whole, and what bounds it."""

import gc
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from deitlt.benchmarks.bare_loop import BareLoop
from deitlt.benchmarks.bench import SAM, Bench, Workload, open_bench, temporary_folder
from deitlt.benchmarks.fitting import Round, fit_in_rounds
from deitlt.benchmarks.memory import PeakMemory
from deitlt.benchmarks.operations import label_operations, matrix_peak, step_operations
from deitlt.benchmarks.sam_step import sam_over_plain
from deitlt.benchmarks.settled_batch import with_batches
from deitlt.benchmarks.timing import Seconds, Work, median, ratio, seconds
from deitlt.benchmarks.timm_loop import TimmLoop, has_rival
from deitlt.callbacks import FirstStep
from deitlt.errors import ConfigError
from deitlt.tracking import AppendingCSVLogger

Plain = dict[str, Any]
WHOLE, BARE, INPUT, LOADER, HOOK, TEACHER, STEP = "whole", "bare", "input", "loader", "hook", "teacher", "step"
TIMM = "timm_"  # before the name of what timm does


def measure_training(config: DictConfig) -> Plain:
    """Measures each stage of `training.measured`, one after the other; within a stage alternatives take turns.

    Returns:
        Of each stage what `measure_stage` says; of each that was measured with SAM and without, the seconds of steps
        with it over those without, in turns; and the device's matrix peak for each precision.

    Raises:
        ConfigError: no stage is named.
    """
    names = list(config.training.measured)
    if not names:
        raise ConfigError("training.measured=[] names no stage; type training.measured=[student], say.")
    workload = workload_of(config)
    found: Plain = {"stages": {}, "sam": {}, "matrix_peak": {}}
    with temporary_folder() as folder:
        config = with_batches(config, names, Path(folder), workload)
        for name in names:
            rival = config.compare == "timm"
            found["stages"][name] = measure_stage(config, name, Path(folder) / name, workload, rival)
        for name in names:
            if f"{SAM}{name}" in names:
                found["sam"][name] = sam_over_plain(config, name, Path(folder) / "sam" / name, workload)
    for stage in found["stages"].values():
        precision, device = stage["configuration"]["precision"], torch.device(stage["configuration"]["device"])
        peaks = found["matrix_peak"].setdefault(precision, {})
        peaks.update(peaks or matrix_peak(device, precision))
        stage.update(_shares_of_peak(stage, max(peaks.values())))
    return found


def workload_of(config: DictConfig) -> Workload:
    """How much the configuration asks to measure."""
    return Workload(config.training.batches, config.repeats, config.generated)


def measure_stage(config: DictConfig, name: str, folder: Path, workload: Workload, rival: bool) -> Plain:
    """Measures one stage.

    Args:
        config: the run's.
        name: a stage, or SAM and a stage.
        folder: where it may write.
        workload: how much is measured.
        rival: measure timm beside it, where timm can train such a stage.

    Returns:
        Its configuration, images in a round, seconds of every round by what was measured, waits, and what follows
        from them.
    """
    gc.collect()  # networks and workers of the stage before
    torch.compiler.reset()  # its graphs would count towards the limit of this one's
    memory = PeakMemory()
    loop = BareLoop(open_bench(config, name, folder / "bare", workload))
    loop.train()
    found: Plain = {"configuration": configuration(loop.bench), "memory": memory.found(loop.device)}
    found["operations_per_image"] = step_operations(loop)
    found["teacher_operations_per_image"] = 0.0 if loop.data.labeller is None else label_operations(loop)
    works = _works(loop)
    if rival and has_rival(loop.bench):
        works |= _rival(config, name, folder / "timm", workload)
    bench = open_bench(config, name, folder / "whole", workload, lambda stage: [AppendingCSVLogger(stage.folder)])
    rounds, taken = _in_turns(bench, works)
    found |= {"round_images": bench.round_images, "round_batches": bench.round_batches}
    found |= {"seconds": taken, "rounds": [asdict(one) for one in rounds], "first_step_seconds": _first_step(bench)}
    return found | _derived(found, rounds)


def _works(loop: BareLoop) -> dict[str, Work]:
    """What takes turns with Lightning's training, by name."""
    teacher: dict[str, Work] = {} if loop.data.labeller is None else {TEACHER: loop.label}
    return {
        BARE: loop.train,
        INPUT: loop.feed,
        LOADER: loop.load,
        HOOK: loop.hook,
        **teacher,
        STEP: loop.train_on_held,
    }


def _rival(config: DictConfig, name: str, folder: Path, workload: Workload) -> dict[str, Work]:
    """What timm does, not compiled, as its own script's default is."""
    eager = OmegaConf.merge(config, {"trainer": {"compile": False}})
    assert isinstance(eager, DictConfig)
    loop = TimmLoop(open_bench(eager, name, folder, workload))
    return {f"{TIMM}{WHOLE}": loop.train, f"{TIMM}{INPUT}": loop.feed, f"{TIMM}{STEP}": loop.train_on_held}


def _in_turns(bench: Bench, works: Mapping[str, Work]) -> tuple[list[Round], Seconds]:
    """Lightning's rounds, and the seconds of what has its turn after each of them; warm-ups do not count."""
    found: Seconds = {WHOLE: [], **{name: [] for name in works}}

    def others(turn: int) -> None:
        for name, work in works.items():
            took = seconds(work, bench.device)
            if turn > 0:
                found[name].append(took)

    rounds = fit_in_rounds(bench, others)
    found[WHOLE] = [one.seconds for one in rounds]
    return rounds, found


def _derived(found: Plain, rounds: list[Round]) -> Plain:
    """Medians over the rounds: images a second, milliseconds a batch, ratios, and shares of the time."""
    taken: Seconds = found["seconds"]
    medians = {name: median(values) for name, values in taken.items()}
    derived: Plain = {
        "images_per_second": {name: found["round_images"] / value for name, value in medians.items()},
        "milliseconds_per_batch": {name: 1000 * value / found["round_batches"] for name, value in medians.items()},
        "lightning_over_bare": ratio(taken, WHOLE, BARE),
        "waiting_share": statistics.median(one.waited / one.seconds for one in rounds),
        "waiting_share_between_epochs": statistics.median(one.waited_between_epochs / one.seconds for one in rounds),
    }
    if f"{TIMM}{WHOLE}" in taken:
        derived["over_timm"] = _over_timm(taken)
    return derived


def _over_timm(taken: Seconds) -> dict[str, float]:
    """timm's seconds over ours, so that above 1 ours has more images a second.

    timm's step holds the teacher's answer and its input does not; so ours has it there, too.
    """
    teacher = taken.get(TEACHER, [0.0] * len(taken[STEP]))
    ours = {
        WHOLE: taken[WHOLE],
        INPUT: [a - b for a, b in zip(taken[INPUT], teacher, strict=True)],
        STEP: [a + b for a, b in zip(taken[STEP], teacher, strict=True)],
    }
    return {name: ratio({"timm": taken[f"{TIMM}{name}"], "ours": ours[name]}, "timm", "ours") for name in ours}


def _shares_of_peak(stage: Plain, peak: float) -> Plain:
    """Which share of the matrix peak the step alone and the whole, with its teacher, reach."""
    speed, operations = stage["images_per_second"], stage["operations_per_image"]
    whole = operations + stage["teacher_operations_per_image"]
    return {"share_of_peak": {STEP: speed[STEP] * operations / peak, WHOLE: speed[WHOLE] * whole / peak}}


def _first_step(bench: Bench) -> float | None:
    """Seconds to the end of the first update, compiling included."""
    return next((callback.seconds for callback in bench.callbacks if isinstance(callback, FirstStep)), None)


def configuration(bench: Bench) -> Plain:
    """What the figures depend on."""
    stage, data = bench.stage, bench.datamodule
    recipe = stage.recipe
    network = bench.module.network
    return {
        "stage": stage.name,
        "sam": recipe["sam"]["enabled"],
        "device": str(bench.device),
        "precision": stage.trainer["precision"],
        "compile": stage.trainer["compile"],
        "data": data.spec.name,
        "train_images": sum(data.info.counts),
        "classes": data.info.num_classes,
        "epoch_images": bench.epoch_images,
        "image_size": data.image_size,
        "batch_images": bench.batch_images,
        "accumulate": bench.trainer.accumulate_grad_batches,
        "workers": data.num_workers,
        "resident": stage.data.get("resident"),
        "model": recipe["model"],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "views": recipe["views"],
        "sampler": recipe.get("sampler", stage.data.get("sampler")),
        "optimizer": recipe["optimizer"],
        "ema": recipe["ema"],
        "distillation": recipe.get("distillation"),
        "teacher": stage.run["teacher"]["model"] if stage.distils else None,
    }
