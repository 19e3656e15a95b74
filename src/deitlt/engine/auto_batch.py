"""`batch_size=auto`: the number that a stage trains with, settled before anything is launched."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from deitlt.engine.batch_search import candidates, gib, search
from deitlt.engine.batches import AUTO
from deitlt.engine.building import build_data
from deitlt.engine.fresh_teacher import write_fresh_teacher
from deitlt.engine.ranks import STAGE_FILE
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.step_memory import StepMemory, release
from deitlt.errors import ConfigError

# Shares of the free memory that are left alone. A CPU's process takes about 1.4 times what its tensors do, measured
# with a DeiT-Ti of 224 pixels; on a GPU only fragments and what others may take have to be thought of.
MARGINS = {"gpu": 0.1, "cpu": 1 / 3}


def settle_batch(stage: StageConfig, teacher: StageConfig | None) -> tuple[StageConfig, str | None]:
    """The stage with a number in place of 'auto', and what was found, in words.

    A stage that was begun keeps its number: with another one, a resumed run would not repeat it.

    Args:
        stage: any; where it distils from a checkpoint, with `teacher` set.
        teacher: the stage that trains its teacher, where there is no checkpoint yet.

    Raises:
        ConfigError: not even one image fits.
    """
    if stage.recipe["batch_size"] != AUTO:
        return stage, None
    begun = Path(stage.folder) / STAGE_FILE
    if begun.exists():
        return _with(stage, StageConfig.load(begun).recipe["batch_size"]), None
    found, said = _find(stage, teacher)
    return _with(stage, found), f"{stage.name}: {said}"


def _with(stage: StageConfig, images: int) -> StageConfig:
    return replace(stage, recipe={**stage.recipe, "batch_size": images})


def _find(stage: StageConfig, teacher: StageConfig | None) -> tuple[int, str]:
    """The largest batch that divides a device's share of an update and fits its memory; GPUs are taken as equal."""
    datamodule = build_data(stage)
    devices, ranks = stage.trainer["devices"], stage.ranks
    order = datamodule.loader.sampler(datamodule.splits.train, num_replicas=ranks, rank=0, seed=stage.seed)
    sizes = candidates(stage.recipe["images_per_update"], ranks, most=len(order))
    accelerator = stage.trainer["accelerator"]
    margin, on_gpu = MARGINS[accelerator], accelerator == "gpu"
    release()
    free = free_memory(torch.device("cuda")) if on_gpu else free_memory(torch.device("cpu")) // devices
    with tempfile.TemporaryDirectory(prefix="deitlt-batch-") as folder:
        if stage.distils and stage.teacher is None:
            assert teacher is not None
            fresh = write_fresh_teacher(teacher, build_data(teacher), Path(folder) / "fresh.ckpt")
            stage = replace(stage, teacher=str(fresh))
        step, window = StepMemory(stage), _window_bytes(stage)
        found = search(sizes, lambda images: step(images) + window, free, margin, is_run=on_gpu)
    release()
    if found is None:
        raise ConfigError(
            f"{stage.kind}.batch_size=auto found no batch: not even one image's step fits into the {gib(free)} that "
            f"are free, less {margin:.0%}; type a smaller {stage.kind}.image_size or {stage.kind}/model."
        )
    return found.images, str(found)


def _window_bytes(stage: StageConfig) -> int:
    """Bytes of the images that SAM keeps for its second pass: those of a device's whole update, one view each."""
    if not stage.recipe["sam"]["enabled"]:
        return 0
    pixels: int = 3 * stage.recipe["image_size"] ** 2
    images: int = stage.recipe["images_per_update"] // stage.ranks
    return 4 * pixels * images


def free_memory(device: torch.device) -> int:
    """Bytes that a device has left."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
