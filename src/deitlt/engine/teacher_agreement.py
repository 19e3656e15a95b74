"""The student's training images as a teacher may be asked about them: clean, cropped, augmented, mixed."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from numpy.typing import NDArray
from torch import Tensor

from deitlt.analysis import Teacher, agreement, decide
from deitlt.data import LongTailDataModule
from deitlt.data.images import ImageDataset, Subset
from deitlt.data.loading import Delivery, make_delivery
from deitlt.data.samplers import SampleKey, choose_evenly
from deitlt.engine.stage_config import StageConfig
from deitlt.transforms import Mixup, student_transform
from deitlt.transforms.image import CropOptions

InputKind = Literal["clean", "cropped", "augmented", "mixed"]
KINDS: tuple[InputKind, ...] = get_args(InputKind)
AT_ONCE = 64  # images
_PARTNERS, _VIEWS, _MIXING = range(1, 4)  # name the streams; 0 is that of the choice of images


def input_kinds(stage: StageConfig) -> tuple[InputKind, ...]:
    """The kinds that a student's recipe has: 'cropped' if its transform has one of our crops, 'mixed' if it mixes."""
    chosen = stage.recipe["transforms"]
    mixing = chosen["mixing"]
    absent = set() if "crop" in _crop_options(chosen["train"]) else {"cropped"}
    if mixing is None or not (mixing.get("mixup", 1) or mixing.get("cutmix", 1)):
        absent.add("mixed")
    return tuple(kind for kind in KINDS if kind not in absent)


def teacher_inputs(
    stage: StageConfig,
    datamodule: LongTailDataModule,
    kind: InputKind,
    images: int,
    device: torch.device | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Training images with only so much of the student's augmentation; the same images in the same order for each kind.

    - ``clean``: the evaluation view.
    - ``cropped``: the recipe's random crop and flip alone; with ``crop=padded`` that is the shift.
    - ``augmented``: the recipe's whole view, unmixed; of several crops the first.
    - ``mixed``: that view, mixed at probability 1 with a partner drawn from the training split as it is, mostly head.
      Of the two mixtures of each pair it is the one in which the image has the greater share: its class is the label.

    Args:
        stage: a student's or a baseline's.
        datamodule: its data.
        kind: one of `input_kinds(stage)`.
        images: how many at most; chosen as in `choose_evenly`. Draws depend on the stage's seed alone.
        device: where views of batches are made, and where the images go; the CPU if None.

    Yields:
        images [B, 3, H, W], normalised for the student, and class ids [B].
    """
    source, place = datamodule.splits.train, device or torch.device("cpu")
    chosen = choose_evenly(source.labels, images, stage.seed)
    if kind == "mixed":
        yield from _mixed(stage, datamodule, chosen, place)
        return
    delivery = _delivery(stage, datamodule, kind, source, chosen, place)
    for step, places in enumerate(_split(len(chosen))):
        yield _batch(delivery, places, place, np.random.default_rng((stage.seed, _VIEWS, step)))


def teacher_agreement(
    stage: StageConfig,
    datamodule: LongTailDataModule,
    teacher: Teacher,
    images: int,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """A teacher's agreement with the truth on each kind of images, before a student is trained.

    Args:
        stage: the student's.
        datamodule: its data.
        teacher: its teacher: images [B, 3, H, W], the student's -> logits [B, C].
        images: how many at most.
        device: where to.

    Returns:
        ``agreement``: kind -> ``all`` or a group -> percent; ``consistency``: the same for how often the teacher
        stays with its decision on the clean image. Both are NaN where a logit is not finite.
    """
    info, found = datamodule.info, {}
    for kind in input_kinds(stage):
        said = decide(teacher, teacher_inputs(stage, datamodule, kind, images, device))
        if said is None:
            return {"agreement": math.nan, "consistency": math.nan}
        found[kind] = said
    clean = found["clean"]
    return {
        "agreement": {kind: agreement(said, info.groups, info.counts) for kind, said in found.items()},
        "consistency": {
            kind: agreement(said, info.groups, info.counts, reference=clean)
            for kind, said in found.items()
            if kind != "clean"
        },
    }


def _mixed(
    stage: StageConfig, datamodule: LongTailDataModule, chosen: NDArray[np.int64], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    source = datamodule.splits.train
    partners = np.random.default_rng((stage.seed, _PARTNERS)).integers(len(source), size=len(chosen))
    delivery = _delivery(stage, datamodule, "mixed", source, np.concatenate((chosen, partners)), device)
    assert datamodule.mixing_factory is not None
    recipe = datamodule.mixing_factory(datamodule.info.num_classes)
    mixing = replace(recipe, num_classes=2, probability=1.0, smoothing=0.0, attention=False)
    for step, places in enumerate(_split(len(chosen))):
        paired = np.concatenate((places, places + len(chosen)))
        images, labels = _batch(delivery, paired, device, np.random.default_rng((stage.seed, _VIEWS, step)))
        stream, own, others = np.random.default_rng((stage.seed, _MIXING, step)), *images.chunk(2)
        # Pair by pair: a draw a batch, as in training, has the same distribution, but the estimate would need more.
        mixed = [_greater_share(mixing, torch.stack(pair), stream) for pair in zip(own, others, strict=True)]
        yield torch.stack(mixed), labels[: len(places)]


def _greater_share(mixing: Mixup, pair: Tensor, stream: np.random.Generator) -> Tensor:
    """pair: [2, 3, H, W] -> of its two mixtures that in which the first has the greater share: [3, H, W].

    Args:
        mixing: of two classes, which are the two images.
    """
    mixed = mixing(pair, torch.arange(2, device=pair.device), stream)
    return torch.where(mixed.targets[0, 0] >= 0.5, mixed.images[0], mixed.images[1])


def _delivery(
    stage: StageConfig,
    datamodule: LongTailDataModule,
    kind: InputKind,
    source: ImageDataset,
    chosen: NDArray[np.int64],
    device: torch.device,
) -> Delivery:
    """How some images come to their views of a kind."""
    size = datamodule.image_size, datamodule.normalisation
    if kind == "clean":
        view: Any = datamodule.evaluation_transform()
    elif kind == "cropped":
        options = _crop_options(stage.recipe["transforms"]["train"])
        view = student_transform(*size, rand_augment=None, erasing=0.0, **options)
    else:
        view = datamodule.train_transform()
    part = Subset(source, chosen)
    return make_delivery(part, view, datamodule.loader.cache_on_device, device, stage.seed, rank=0)


def _crop_options(transform: Mapping[str, Any]) -> dict[str, Any]:
    """What a transform of the recipe is told about its crop and flip; the rest is left out of 'cropped'."""
    return {name: transform[name] for name in CropOptions.__annotations__ if name in transform}


def _batch(
    delivery: Delivery, places: NDArray[np.int64], device: torch.device, stream: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """One batch: its views [B, 3, H, W] and class ids [B]; of several views of an image the first."""
    travelled, targets = delivery.collate([delivery.samples[SampleKey(0, int(place), 0)] for place in places])
    views = delivery.finish(move_data_to_device(travelled, device), device, stream)
    first = views if isinstance(views, Tensor) else views[0]
    return first.to(device), targets.to(device)


def _split(count: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]
