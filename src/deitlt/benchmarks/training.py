"""Measures the training of stages: the input alone, the step alone, and the whole, beside a bare loop and timm's."""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader, Dataset

from deitlt.benchmarks.bare_loop import BareLoop
from deitlt.benchmarks.bench import SAM, Bench, Workload, open_bench
from deitlt.benchmarks.machine import (
    Plain,
    Seconds,
    Work,
    matrix_peak,
    peak_memory,
    ratio,
    seconds,
    synchronize,
)
from deitlt.benchmarks.timm_loop import TimmLoop, has_timm_loop
from deitlt.callbacks import SharpnessAwareMinimization, Throughput
from deitlt.errors import ConfigError
from deitlt.models import count_operations

WHOLE, BARE, INPUT, STEP = "whole", "bare", "input", "step"
TIMM = "timm_"  # before the name of what timm does
Cell = Callable[[Plain], str]


class RoundTimer(L.Callback):
    """Times rounds of whole epochs of Lightning's training; the first is a warm-up and does not count.

    It has to be the last of the callbacks. After each round training halts while `between` runs, so that
    alternatives can take turns with it in one process.

    Args:
        epochs: of a round.
        device: where the training runs.
        between: called after each round with its number; 0 is the warm-up.
    """

    def __init__(self, epochs: int, device: torch.device, between: Callable[[int], None]) -> None:
        self.epochs, self.device, self.between = epochs, device, between
        self.rounds: list[float] = []
        self._turn, self._began = 0, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the warm-up."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After a round's last epoch let the others have their turn."""
        if (trainer.current_epoch + 1) % self.epochs:
            return
        synchronize(self.device)
        if self._turn > 0:
            self.rounds.append(time.perf_counter() - self._began)
        self.between(self._turn)
        self._turn += 1
        synchronize(self.device)
        self._began = time.perf_counter()


def measure_training(config: DictConfig) -> Plain:
    """Measures each stage of `training.measured`, one after the other; within a stage alternatives take turns.

    Returns:
        stages: of each what `measure_stage` says. sam: of each that was measured with SAM and without, the seconds of
        steps with it over those without. matrix_peak: operations a second, by precision.

    Raises:
        ConfigError: no stage is named.
    """
    names = list(config.training.measured)
    if not names:
        raise ConfigError("training.measured=[] names no stage; type training.measured=[student], say.")
    workload = Workload(config.training.batches, config.repeats, config.generated)
    found: Plain = {"stages": {}, "sam": {}, "matrix_peak": {}}
    with tempfile.TemporaryDirectory(prefix="deitlt-benchmark-") as folder:
        for name in names:
            found["stages"][name] = measure_stage(config, name, Path(folder) / name, workload)
        for name in names:
            if f"{SAM}{name}" in names:
                found["sam"][name] = sam_over_plain(config, name, Path(folder) / "sam" / name, workload)
    for stage in found["stages"].values():
        precision, device = stage["configuration"]["precision"], torch.device(stage["configuration"]["device"])
        if precision not in found["matrix_peak"]:
            found["matrix_peak"][precision] = matrix_peak(device, precision)
        speed = stage["images_per_second"][STEP] * stage["operations_per_image"]
        stage["share_of_peak"] = speed / found["matrix_peak"][precision]
    return found


def measure_stage(config: DictConfig, name: str, folder: Path, workload: Workload) -> Plain:
    """Measures one stage in Lightning, in a bare loop, and with compare=timm in timm's where timm can train it.

    Args:
        config: the run's.
        name: a stage, or `SAM` and a stage.
        folder: where it may write.
        workload: how much is measured.

    Returns:
        Its configuration, memory, operations an image, seconds of every round by what was measured, and their medians.
    """
    gc.collect()  # networks and workers of the stage before
    torch.compiler.reset()  # its graphs would count towards the limit of this one's
    loop = BareLoop(open_bench(config, name, folder / "bare", workload))
    loop.train()
    found: Plain = {"configuration": configuration(loop.bench), "memory": peak_memory(loop.device)}
    found["operations_per_image"] = step_operations(loop)
    works: dict[str, Work] = {BARE: loop.train, INPUT: loop.feed, STEP: loop.train_on_held}
    if config.compare == "timm":
        eager = OmegaConf.merge(config, {"trainer": {"compile": False}})  # as its own script's default is
        assert isinstance(eager, DictConfig)
        if has_timm_loop(rival := open_bench(eager, name, folder / "timm", workload)):
            timm = TimmLoop(rival)
            works |= {f"{TIMM}{WHOLE}": timm.train, f"{TIMM}{INPUT}": timm.feed, f"{TIMM}{STEP}": timm.train_on_held}
    bench = open_bench(config, name, folder / "whole", workload, logs=True)
    taken = _in_turns(bench, works)
    first = next(one.first_step_seconds for one in bench.callbacks if isinstance(one, Throughput))
    found |= {"round_images": bench.round_images, "seconds": taken, "first_step_seconds": first}
    beside = [one for one in (INPUT, STEP, WHOLE) if f"{TIMM}{one}" in taken]
    return found | {
        "images_per_second": {name: bench.round_images / statistics.median(took) for name, took in taken.items()},
        "lightning_over_bare": ratio(taken, WHOLE, BARE),
        # Above 1 ours has more images a second than timm's.
        "over_timm": {one: ratio(taken, f"{TIMM}{one}", one) for one in beside},
    }


def _in_turns(bench: Bench, works: dict[str, Work]) -> dict[str, list[float]]:
    """Seconds of Lightning's rounds, and of what has its turn after each of them; warm-ups do not count."""
    found: dict[str, list[float]] = {name: [] for name in works}

    def others(turn: int) -> None:
        for name, work in works.items():
            took = seconds(work, bench.device)
            if turn > 0:
                found[name].append(took)

    timer = RoundTimer(bench.round_epochs, bench.device, others)
    bench.trainer.callbacks.append(timer)  # type: ignore[attr-defined]
    bench.trainer.fit(bench.module, datamodule=bench.datamodule)
    return {WHOLE: timer.rounds, **found}


def step_operations(loop: BareLoop) -> float:
    """Operations of an image's share of a step: forward and backward, twice with SAM; teacher and PaCo's keys once."""
    batch = loop.held
    once = count_operations(lambda: loop.module.on_train_batch_start(batch, 0))
    one_pass = count_operations(lambda: loop.backward(batch, 0))
    loop.optimizer.zero_grad()
    return (once + one_pass * (1 if loop.sam is None else 2)) / loop.bench.batch_images


class HeldBatch(Dataset[Any]):
    """One complete batch that is on its device, again and again."""

    def __init__(self, batch: Any, batches: int) -> None:
        self.batch, self.batches = batch, batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> Any:
        return self.batch


def sam_over_plain(config: DictConfig, name: str, folder: Path, workload: Workload) -> Plain:
    """Trains a stage on one batch in Lightning, a round without SAM and a round with it, and so on.

    Returns:
        Seconds of each round, and the median of their ratios.
    """
    torch.compiler.reset()
    both = Workload(workload.batches, 2 * workload.rounds + 1, workload.generated)  # and a warm-up of each
    batch = BareLoop(open_bench(config, f"{SAM}{name}", folder / "batch", workload)).held
    bench = open_bench(config, f"{SAM}{name}", folder, both)
    sam = next(one for one in bench.callbacks if isinstance(one, SharpnessAwareMinimization))
    timer = RoundTimer(bench.round_epochs, bench.device, lambda turn: _switch(bench, sam))
    bench.trainer.callbacks.append(timer)  # type: ignore[attr-defined]
    loader = DataLoader(HeldBatch(batch, bench.batches), batch_size=None)
    bench.trainer.fit(bench.module, train_dataloaders=loader)
    # The warm-up, which is not among the rounds, was with SAM; the first round after it is without.
    taken: Seconds = {"sam": timer.rounds[1::2], "plain": timer.rounds[2::2]}
    return {"seconds": taken, "sam_over_plain": ratio(taken, "sam", "plain")}


def _switch(bench: Bench, sam: SharpnessAwareMinimization) -> None:
    """Take SAM out of the training, or put it back to where it was: behind the seeding of steps."""
    callbacks: list[L.Callback] = bench.trainer.callbacks  # type: ignore[attr-defined]
    if sam in callbacks:
        callbacks.remove(sam)
        sam.teardown(bench.trainer, bench.module, "fit")
    else:
        callbacks.insert(1, sam)
        sam.on_fit_start(bench.trainer, bench.module)


def configuration(bench: Bench) -> Plain:
    """What the figures depend on."""
    stage, data = bench.stage, bench.datamodule
    return {
        "stage": stage.name,
        "sam": stage.recipe["sam"]["enabled"],
        "device": str(bench.device),
        "precision": stage.trainer["precision"],
        "compile": stage.trainer["compile"],
        "train_images": sum(data.info.counts),
        "classes": data.info.num_classes,
        "batch_images": bench.batch_images,
        "accumulate": bench.trainer.accumulate_grad_batches,
        "parameters": sum(parameter.numel() for parameter in bench.module.network.parameters()),
        "data": stage.data,
        "recipe": stage.recipe,
        "teacher": stage.run["teacher"]["model"] if stage.distils else None,
    }


def training_table(found: Plain) -> list[list[str]]:
    """The results: a row a figure, a column a stage; the first row names the columns."""
    stages = found["stages"]
    rows = [["measured", *stages]]
    for words, cell in ROWS:
        cells = [_cell(cell, stage) for stage in stages.values()]
        rows += [[words, *cells]] if any(text != "-" for text in cells) else []
    if found["sam"]:
        ratios = {f"{SAM}{name}": f"{one['sam_over_plain']:.2f}" for name, one in found["sam"].items()}
        rows.append(["step with SAM over without, time", *(ratios.get(name, "-") for name in stages)])
    for precision, peak in found["matrix_peak"].items():
        rows.append([f"matrix peak in {precision}", f"{peak / 1e12:.2f} TFLOP/s", *[""] * (len(stages) - 1)])
    return rows


def _cell(cell: Cell, stage: Plain) -> str:
    """A figure of a stage, or that there is none."""
    try:
        return cell(stage)
    except (KeyError, TypeError):
        return "-"


def _speed(name: str) -> Cell:
    return lambda stage: f"{stage['images_per_second'][name]:,.0f}"


def _waiting(stage: Plain) -> str:
    """What of the whole's time is no step: waiting for images, in the main."""
    return f"{max(0.0, 1 - stage['images_per_second'][WHOLE] / stage['images_per_second'][STEP]):.1%}"


def _over_timm(name: str) -> Cell:
    return lambda stage: f"{stage['over_timm'][name]:.2f}"


ROWS: list[tuple[str, Cell]] = [
    ("precision", lambda stage: stage["configuration"]["precision"]),
    ("images a batch", lambda stage: str(stage["configuration"]["batch_images"])),
    ("input alone, images/s", _speed(INPUT)),
    ("step alone, images/s", _speed(STEP)),
    ("the whole, images/s", _speed(WHOLE)),
    ("share of the whole beside the step", _waiting),
    ("the whole in a bare loop, images/s", _speed(BARE)),
    ("Lightning over bare loop, time", lambda stage: f"{stage['lightning_over_bare']:.3f}"),
    ("input over timm's, images/s", _over_timm(INPUT)),
    ("step over timm's, images/s", _over_timm(STEP)),
    ("the whole over timm's, images/s", _over_timm(WHOLE)),
    ("step, operations an image", lambda stage: f"{stage['operations_per_image'] / 1e9:.3f} GFLOP"),
    ("step, share of matrix peak", lambda stage: f"{stage['share_of_peak']:.1%}"),
    ("peak memory", lambda stage: f"{stage['memory']['mib']:,.0f} MiB"),
    ("first update done after, s", lambda stage: f"{stage['first_step_seconds']:.1f}"),
]
