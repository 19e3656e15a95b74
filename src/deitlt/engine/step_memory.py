"""What a training step takes, found by training a stage for two steps with fresh weights."""

import gc
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console

from deitlt.callbacks import SharpnessAwareMinimization, StudentAveraging
from deitlt.engine.building import build_data, build_module, build_teacher
from deitlt.engine.live_tensors import LiveTensors
from deitlt.engine.stage import quieten
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.trainer import build_callbacks, build_trainer
from deitlt.modules import ClassifierModule

STEPS = 2  # the optimiser's state comes with the first


class StepMemory:
    """Measures the steps of one stage on one device, whatever it will be trained on.

    All that takes memory is there: the stage's precision, its views and crops, SAM's copies of the weights, the
    moving average and the teacher. Networks are not compiled, which may take more memory than if they were. On a
    GPU the allocator tells the peak of all tensors, on a CPU they are counted.

    Args:
        stage: with `teacher` set where it distils.
    """

    def __init__(self, stage: StageConfig) -> None:
        assert stage.teacher is not None or not stage.distils
        self.stage = stage
        self.on_gpu = stage.trainer["accelerator"] == "gpu"

    def __call__(self, images: int) -> int:
        """Bytes of a step with so many images.

        Raises:
            torch.OutOfMemoryError: the GPU has not so many.
        """
        release()
        before = torch.cuda.memory_allocated() if self.on_gpu else 0
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        live = LiveTensors()
        with tempfile.TemporaryDirectory(prefix="deitlt-batch-") as folder, nullcontext() if self.on_gpu else live:
            module = self._train(images, Path(folder))
        gradients = [p for p in module.network.parameters() if p.requires_grad]
        buckets = sum(p.nbytes for p in gradients) if self.stage.ranks > 1 else 0  # DDP copies them
        return buckets + (torch.cuda.max_memory_allocated() - before if self.on_gpu else live.peak)

    def _train(self, images: int, folder: Path) -> ClassifierModule:
        """Train for two epochs of one batch, without what is written or said."""
        quieten()
        stage = self._with_batch(images, folder)
        datamodule = build_data(stage)
        module = build_module(stage, datamodule.info, build_teacher(stage, datamodule))
        module.watched = ()
        around = build_callbacks(stage, datamodule.info, Console(quiet=True))
        kept = [c for c in around if isinstance(c, SharpnessAwareMinimization | StudentAveraging)]
        trainer = build_trainer(stage, [*kept, ModelCheckpoint(folder, save_top_k=0)], [], watches=False)
        trainer.limit_train_batches = 1
        trainer.fit(module, datamodule=datamodule)
        return module

    def _with_batch(self, images: int, folder: Path) -> StageConfig:
        """The stage on one device, for two updates of one batch each."""
        recipe = {**self.stage.recipe, "epochs": STEPS, "images_per_update": images, "batch_size": images}
        trainer = {**self.stage.trainer, "devices": 1, "strategy": "auto", "compile": False}
        data = {**self.stage.data, "num_workers": 0}
        return replace(self.stage, folder=str(folder), recipe=recipe, trainer=trainer, data=data)


def release() -> None:
    """Give back what nobody holds any more: Lightning's parts refer to each other in circles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
