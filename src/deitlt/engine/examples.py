"""What the student and its teacher are shown, as pictures: views of a batch, and RandAugment beside timm's."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.auto_augment import LEVEL_TO_ARG, NAME_TO_OP
from torch import Tensor

from deitlt.data import LongTailDataModule
from deitlt.data.loading import isolated_rng
from deitlt.data.samplers import SampleKey
from deitlt.engine.build import build_data, build_teacher
from deitlt.engine.stage_config import StageConfig
from deitlt.reports.figures import save_figure
from deitlt.reports.image_figures import ImageExample, image_grid
from deitlt.transforms import BatchTransform, Mixup, TeacherInput, denormalise, student_transform
from deitlt.transforms.operations import Layer, Operation, draw_warps
from deitlt.transforms.randaugment import ARGUMENTS, STEPS, BatchRandAugment
from deitlt.types import Batch, Normalisation

Picture = NDArray[Any]  # [H, W, 3]
EXAMPLES = 8  # a batch of so many is mixed and shown
EVENLY = 20.0  # a Beta parameter whose proportions lie near one half: of a mixture both images are to be seen
WHOLE_NUMBERS = (Operation.POSTERIZE, Operation.SOLARIZE, Operation.SOLARIZE_ADD)
LOUDER = 8  # times a difference is shown


def draw_views(stage: StageConfig, path: Path) -> Path:
    """Draw a batch as the stage will see it, and what its teacher, if it has one, is asked about.

    Args:
        stage: the stage; data of its own are opened, so that none of training's is changed.
        path: the picture's file.
    """
    data, title = build_data(stage), f"What the {stage.name} trains on"
    if stage.kind == "teacher":
        examples = teacher_examples(data, stage.seed)
    else:
        teacher = build_teacher(stage, data)
        asked = None if teacher is None else teacher.input
        assert asked is None or isinstance(asked, TeacherInput)
        title += "" if asked is None else ", and what its teacher is asked about"
        examples = student_examples(data, asked, stage.seed)
    return save_figure(image_grid(examples, title), path)


def student_examples(datamodule: LongTailDataModule, teacher: TeacherInput | None, seed: int) -> list[ImageExample]:
    """One batch of images from all over the classes, as the student sees it and the teacher is asked about it.

    Where an image has several views, the first image shows the first of them, the next image the second.

    Args:
        datamodule: the student's.
        teacher: what becomes of the student's images on their way to the teacher; None where nobody teaches.
        seed: of the choice of images, of their views and mixing.
    """
    originals, batch = _viewed_batch(datamodule, seed)
    return [_student_example(datamodule, teacher, batch, i, original) for i, original in enumerate(originals)]


def teacher_examples(datamodule: LongTailDataModule, seed: int) -> list[ImageExample]:
    """One batch of images from all over the classes, each with all the views that the teacher trains on.

    Args:
        datamodule: the teacher's.
        seed: of the choice of images, of their views and mixing.
    """
    originals, batch = _viewed_batch(datamodule, seed)
    examples = []
    for i, original in enumerate(originals):
        pictures: dict[str, Picture] = {"original": original}
        rows = _rows(batch, i)
        for number, (part, row) in enumerate(rows, start=1):
            head = "view" if len(rows) == 1 else f"view {number}"
            pictures[head] = _picture(part.images[row], datamodule.normalisation)
        examples.append(ImageExample(pictures, caption(batch.targets[i], datamodule.info.class_names)))
    return examples


def _student_example(
    datamodule: LongTailDataModule, teacher: TeacherInput | None, batch: Batch, i: int, original: Picture
) -> ImageExample:
    rows = _rows(batch, i)
    part, row = rows[i % len(rows)]
    pictures = {"original": original, "student's view": _picture(part.images[row], datamodule.normalisation)}
    if teacher is not None:
        asked = part.images[row] if part is batch or datamodule.teacher_sees == "both" else batch.images[i]
        normalisation = teacher.teacher or datamodule.normalisation
        pictures["teacher's view"] = _picture(teacher(asked[None])[0], normalisation)
    words = caption(part.targets[row], datamodule.info.class_names)
    words = words if batch.pasted is None else f"{words}, by area (TransMix: by attention)"
    return ImageExample(pictures, words if len(rows) == 1 else f"view {i % len(rows) + 1} of {len(rows)}: {words}")


def _viewed_batch(datamodule: LongTailDataModule, seed: int) -> tuple[list[Picture], Batch]:
    """Originals of all over the classes, and the complete batch of their training views.

    It is mixed if training mixes at all, however rarely and unevenly, since that is what one wants to see.
    """
    source, info = datamodule.splits.train, datamodule.info
    # Spread over the classes from the most frequent to the rarest.
    by_count = sorted(range(info.num_classes), key=lambda c: -info.counts[c])
    shown = [by_count[round(i * (info.num_classes - 1) / (EXAMPLES - 1))] for i in range(EXAMPLES)]
    rng = np.random.default_rng(seed)
    chosen = [int(rng.choice(np.flatnonzero(source.labels == c))) for c in shown]
    delivery = datamodule.delivery()
    samples = [delivery.samples[SampleKey(0, i, repeat)] for repeat, i in enumerate(chosen)]
    travelled, targets = delivery.collate(samples)
    views = delivery.finish(travelled, torch.device("cpu"), rng)
    if datamodule.mixing_factory is not None:
        visible = visibly(datamodule.mixing_factory(info.num_classes))
        datamodule.mixing_factory = lambda num_classes: visible
    return [np.asarray(source[i]) for i in chosen], datamodule.complete(views, targets, rng)


def visibly(mixing: Mixup) -> Mixup:
    """The same mixing at every batch and about half and half; with TransMix the CutMix that it is about."""
    by_attention = mixing.attention and mixing.cutmix > 0
    return replace(
        mixing,
        probability=1.0,
        mixup=EVENLY if mixing.mixup and not by_attention else 0.0,
        cutmix=EVENLY if mixing.cutmix else 0.0,
    )


def caption(target: Tensor, names: tuple[str, ...]) -> str:
    """target: a class id, or probabilities [C]; the classes that the image was mixed of, in words."""
    if target.ndim == 0:
        return names[int(target)]
    floor = float(target.min())
    shares = {names[c]: float(share) for c, share in enumerate(target) if float(share) > floor + 1e-6}
    words = [f"{share:.0%} {name}" for name, share in sorted(shares.items(), key=lambda item: -item[1])]
    others = float(target.sum()) - sum(shares.values())  # smoothing's
    return " + ".join([*words, f"{others:.0%} others"] if others >= 0.005 else words)


def _rows(batch: Batch, i: int) -> list[tuple[Batch, int]]:
    """Where the views of image i stand: the part of the batch, and the row in it."""
    return [(part, row) for part in batch.parts for row in range(i, len(part.images), EXAMPLES)]


def _picture(image: Tensor, normalisation: Normalisation) -> Picture:
    """image: [3, H, W], normalised -> [H, W, 3] in [0, 1]."""
    pixels: Picture = denormalise(image, normalisation).permute(1, 2, 0).numpy()
    return pixels


def device_operations(datamodule: LongTailDataModule, seed: int) -> list[ImageExample]:
    """timm's operations and ours on an image of the most frequent class; none where workers make the views.

    Args:
        datamodule: the student's.
        seed: of the choice of the image and of its views.
    """
    view: object = datamodule.train_transform()
    if not isinstance(view, BatchTransform) or view.augment is None:
        return []
    source, most = datamodule.splits.train, int(np.argmax(datamodule.info.counts))
    chosen = int(np.random.default_rng(seed).choice(np.flatnonzero(source.labels == most)))
    return operation_examples(view, np.asarray(source[chosen]), seed=seed)


def operation_examples(view: BatchTransform, picture: Picture, views: int = 5, seed: int = 0) -> list[ImageExample]:
    """timm's result, ours, and their difference for each operation; then whole views, each with its own draws.

    Args:
        view: one with RandAugment.
        picture: [H, W, 3] uint8.
        views: how many whole views of each kind.
        seed: of the whole views.
    """
    assert view.augment is not None, "nothing is augmented"
    side = (view.image_size, view.image_size)
    square = Image.fromarray(picture).resize(side, Image.Resampling.BICUBIC)
    return [*_operations(view.augment, square), *_whole_views(view, picture, views, seed)]


def _operations(augment: BatchRandAugment, square: Image.Image) -> list[ImageExample]:
    """All operations of the policy at its mean strength; every other one with the other sign."""
    names = augment.policy.names
    operations = np.array([int(ARGUMENTS[name][0]) for name in names])
    arguments = np.array([_argument(augment, name, i) for i, name in enumerate(names)])
    levels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float().repeat(len(names), 1, 1, 1)
    augment(levels, draw_warps([Layer(operations, arguments)], (square.height, square.width)))
    ours = levels.permute(0, 2, 3, 1).byte().numpy()
    examples = []
    for name, operation, argument, device in zip(names, operations, arguments, ours, strict=True):
        theirs, words = _timms(augment, name, operation in WHOLE_NUMBERS, float(argument), square)
        apart = np.abs(device.astype(np.float32) - theirs) / 255 * LOUDER
        pictures = {"timm": theirs, "on the device": device, f"difference x {LOUDER}": apart}
        examples.append(ImageExample(pictures, words))
    return examples


def _argument(augment: BatchRandAugment, name: str, position: int) -> float:
    level = np.array([min(augment.policy.magnitude, augment.policy.highest) / STEPS])
    sign = np.array([(-1.0) ** position])
    return float(ARGUMENTS[name][1](level, sign)[0])


def _timms(
    augment: BatchRandAugment, name: str, is_whole: bool, argument: float, square: Image.Image
) -> tuple[Picture, str]:
    """timm's result, and what it is called."""
    words: Sequence[float] = [int(argument) if is_whole else argument] if LEVEL_TO_ARG[name] else []
    mode = Image.Resampling[augment.interpolation.upper()]
    operation: Any = NAME_TO_OP[name]
    made = operation(square, *words, fillcolor=augment.fill, resample=mode)
    return np.asarray(made), " ".join((name, *(f"{word:.3g}" for word in words)))


def _whole_views(view: BatchTransform, picture: Picture, views: int, seed: int) -> list[ImageExample]:
    """Views by timm and views on the device, which do not share their draws."""
    assert view.augment is not None
    alone = student_transform(
        view.image_size,
        view.normalisation,
        rand_augment=view.augment.policy.description,
        erasing=view.erasing,
        **vars(view.begin),
    )
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1).repeat(views, 1, 1, 1)
    together = view(images, np.random.default_rng(seed))
    examples = []
    for i, ours in enumerate(together):
        with isolated_rng(seed, i):
            theirs = alone(Image.fromarray(picture))
        timm, device = (denormalise(x, view.normalisation).permute(1, 2, 0).numpy() for x in (theirs, ours))
        examples.append(ImageExample({"timm": timm, "on the device": device}, "whole views, with draws of their own"))
    return examples
