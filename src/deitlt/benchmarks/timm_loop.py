"""timm's own loader and step of the same model, as an alternative that takes turns with ours."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from PIL.Image import Image
from timm.data import FastCollateMixup, create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.task import TokenDistillationTask
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import Dataset

from deitlt.benchmarks.bench import Bench
from deitlt.data.images import ImageDataset, Subset
from deitlt.models import PaCoNetwork, StudentNetwork
from deitlt.modules import FrozenTeacher, StudentModule

Loss = Callable[[Tensor, Tensor], Tensor]


class TimmImages(Dataset[tuple[Any, int]]):
    """A source as timm's loader wants it: it sets `transform`."""

    def __init__(self, source: ImageDataset) -> None:
        self.source = source
        self.transform: Callable[[Image], Any] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        assert self.transform is not None
        return self.transform(self.source[index]), int(self.source.labels[index])


class Asked(nn.Module):
    """A student's teacher as a network that answers the student's images with logits [B, C]."""

    def __init__(self, teacher: FrozenTeacher) -> None:
        super().__init__()
        self.network, self.view = teacher.network, teacher.input

    def forward(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W], the student's -> logits [B, C]."""
        logits: Tensor = self.network(self.view(images))
        return logits


class TimmLoop:
    """Trains a bench's network as timm's own script does, with timm's loader, mixing, erasing, loss and average.

    The views are per-image ones with the recipe's options, where timm has them; it has neither SAM nor a loss for
    long tails, so a teacher's step is a plain one. A student with a teacher is trained by `TokenDistillationTask`,
    whose teacher answers within the step, and in the step's precision.

    Args:
        bench: the stage; it must not be trained elsewhere.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench, self.device = bench, bench.device
        module = bench.module.to(self.device).train()
        network = module.network
        self.model: nn.Module = network.vit if isinstance(network, StudentNetwork) else network
        self.optimizer = module.configure_optimizers()
        average = bench.stage.recipe["ema"]
        self.average = None if average is None else ModelEmaV3(self.model, decay=average["decay"])
        self.loader = _loader(bench)
        self.loss = self._loss()
        self._held: tuple[Tensor, Tensor] | None = None
        self._batches, self._updates = 0, 0

    def train(self) -> None:
        """One round of whole epochs."""
        for _ in range(self.bench.round_epochs):
            for images, targets in self.loader:
                self.step(images, targets)

    def feed(self) -> None:
        """The whole input of a round, not trained on."""
        for _ in range(self.bench.round_epochs):
            for _batch in self.loader:
                pass

    def train_on_held(self) -> None:
        """The steps of a round, all of them on one batch that is on the device."""
        if self._held is None:
            for number, batch in enumerate(self.loader):  # to its end, so that no worker is left with work
                self._held = batch if number == 0 else self._held
        assert self._held is not None
        for _ in range(self.bench.round_batches):
            self.step(*self._held)

    def step(self, images: Tensor, targets: Tensor) -> None:
        """Forward and backward, and the update once enough images were seen."""
        accumulate = self.bench.trainer.accumulate_grad_batches
        with self.bench.trainer.precision_plugin.forward_context():
            loss = self.loss(images, targets)
        torch.autograd.backward(loss / accumulate)
        self._batches += 1
        if self._batches % accumulate == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()
            self._updates += 1
            if self.average is not None:
                self.average.update(self.model, step=self._updates)

    def _loss(self) -> Loss:
        """images [B, 3, H, W] and targets -> the loss, as timm's tasks have it."""
        criterion = nn.CrossEntropyLoss() if self.bench.stage.recipe["transforms"]["mixing"] is None else _soft()
        module = self.bench.module
        if not isinstance(module, StudentModule) or module.teacher is None:
            return partial(_plain_loss, self.model, criterion)
        kind = "hard" if module.loss.hard else "soft"
        task = TokenDistillationTask(
            self.model,
            Asked(module.teacher).to(self.device),
            criterion=criterion,
            distill_type=kind,
            task_loss_weight=0.5,
            device=self.device,
            verbose=False,
        ).train()
        return lambda images, targets: cast(Tensor, task(images, targets)["loss"])


def has_timm_loop(bench: Bench) -> bool:
    """Whether timm can train this stage: it has neither SAM nor PaCo."""
    return not bench.stage.recipe["sam"]["enabled"] and not isinstance(bench.module.network, PaCoNetwork)


def _plain_loss(model: nn.Module, criterion: Loss, images: Tensor, targets: Tensor) -> Tensor:
    """The mean over a model's heads: a distilled one without a teacher has two in training."""
    answers = model(images)
    heads = answers if isinstance(answers, tuple) else (answers,)
    return torch.stack([criterion(head, targets) for head in heads]).mean()


def _soft() -> nn.Module:
    make: Callable[[], nn.Module] = SoftTargetCrossEntropy
    return make()


def _loader(bench: Bench) -> Any:
    """timm's loader of as many batches an epoch as the bench has, with the recipe's options."""
    data, chosen = bench.datamodule, bench.stage.recipe["transforms"]
    view, mixing = chosen["train"], chosen["mixing"]
    source = data.splits.train
    images = bench.batches * bench.batch_images
    chosen = np.resize(np.random.default_rng(0).permutation(len(source)), images)
    crop = view.get("crop", "padded" if "padding" in view else "resized")
    return create_loader(
        cast(Any, TimmImages(Subset(source, chosen))),
        input_size=(3, data.image_size, data.image_size),
        batch_size=bench.batch_images,
        is_training=True,
        scale=view.get("scale", (0.08, 1.0)),
        train_crop_mode=None if crop == "resized" else "rkrc",  # which keeps the ratio, and shifts
        hflip=view.get("flip", 0.5),
        color_jitter=view.get("jitter", 0.0),
        auto_augment=view.get("rand_augment"),
        re_prob=view.get("erasing", 0.0),
        re_mode="pixel",
        interpolation=view.get("interpolation", "bicubic"),
        mean=data.normalisation.mean,
        std=data.normalisation.std,
        num_workers=data.loader.num_workers,
        collate_fn=None if mixing is None else _mixing(mixing, data.info.num_classes),
        pin_memory=bench.device.type == "cuda",
        device=bench.device,
    )


def _mixing(options: dict[str, Any], num_classes: int) -> FastCollateMixup:
    make: Callable[..., FastCollateMixup] = FastCollateMixup
    return make(
        mixup_alpha=options["mixup"],
        cutmix_alpha=options["cutmix"],
        prob=options["probability"],
        switch_prob=options["switch"],
        label_smoothing=options["smoothing"],
        num_classes=num_classes,
    )
