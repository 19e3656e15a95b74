"""`deitlt inspect`: pictures of what the student and the teacher will see, and of the long tail."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor

from deitlt.checkpoints import check_teacher, find_checkpoint
from deitlt.data import LongTailDataModule
from deitlt.data.samplers import SampleKey
from deitlt.engine.build import build_data
from deitlt.engine.operations import operation_examples
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import StageConfig, check_run, make_stage
from deitlt.reports.class_figures import class_histogram
from deitlt.reports.figures import save_figure
from deitlt.reports.sample_figures import ViewExample, view_grid
from deitlt.transforms import BatchTransform, Mixup, TeacherInput, denormalise
from deitlt.types import Batch, Normalisation

Picture = NDArray[Any]  # [H, W, 3]

VIEWS, TEACHER_VIEWS, CLASSES = "views.png", "teacher_views.png", "classes.png"
OPERATIONS = "operations.png"
EXAMPLES = 8  # a batch of so many is mixed and shown
EVENLY = 20.0  # a Beta parameter whose proportions lie near one half: of a mixture both images are to be seen


def main(config: DictConfig) -> None:
    """Write the pictures of what the run's stages will see into the output folder.

    views.png: the student's training views, and what its teacher, if it has one, is asked about; of the
    baseline where `stages` has no student, and absent where it has neither. teacher_views.png: the teacher's
    own training views, by the recipe, where `stages` has a teacher or the student learns from one.
    operations.png: RandAugment on the device beside timm's, where the student's views are made there.
    classes.png: the classes' counts, always.
    """
    check_run(config)
    run = RunFolder.of_job(config)
    stages = _shown_stages(config, run)
    data = {kind: build_data(stage) for kind, stage in stages.items()}
    info = next(iter(data.values())).info
    pages = {}
    if "student" in stages:
        pages[VIEWS] = _student_page(stages["student"], data["student"], data.get("teacher"))
        if beside := device_operations(data["student"], config.seed):
            pages[OPERATIONS] = "RandAugment by timm and on the device", beside
    if "teacher" in stages:
        whose = "the teacher" if config.teacher.checkpoint is None else "the recipe's teacher"
        pages[TEACHER_VIEWS] = f"What {whose} trains on", teacher_examples(data["teacher"], config.seed)
    figures = {name: view_grid(examples, title) for name, (title, examples) in pages.items()}
    figures[CLASSES] = class_histogram(info.counts, info.class_names, info.groups)
    pictures = [save_figure(figure, run.path / name) for name, figure in figures.items()]
    Console().print(*pictures, sep="\n", highlight=False, soft_wrap=True, markup=False)


def student_examples(datamodule: LongTailDataModule, teacher: TeacherInput | None, seed: int) -> list[ViewExample]:
    """One batch of images from all over the classes, as the student sees it and the teacher is asked about it.

    Where an image has several views, the first image shows the first of them, the next image the second.

    Args:
        datamodule: the student's.
        teacher: what becomes of the student's images on their way to the teacher; None where nobody teaches.
        seed: of the choice of images, of their views and mixing.
    """
    originals, batch = _viewed_batch(datamodule, seed)
    return [_student_example(datamodule, teacher, batch, i, original) for i, original in enumerate(originals)]


def teacher_examples(datamodule: LongTailDataModule, seed: int) -> list[ViewExample]:
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
        examples.append(ViewExample(pictures, caption(batch.targets[i], datamodule.info.class_names)))
    return examples


def device_operations(datamodule: LongTailDataModule, seed: int) -> list[ViewExample]:
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


def _student_page(
    stage: StageConfig, data: LongTailDataModule, teacher: LongTailDataModule | None
) -> tuple[str, list[ViewExample]]:
    """The title and the examples of views.png."""
    title, asked = f"What the {stage.name} trains on", None
    if stage.distils:
        assert teacher is not None
        title, asked = f"{title}, and what its teacher is asked about", _teacher_input(stage, data, teacher)
    return title, student_examples(data, asked, stage.seed)


def _student_example(
    datamodule: LongTailDataModule, teacher: TeacherInput | None, batch: Batch, i: int, original: Picture
) -> ViewExample:
    rows = _rows(batch, i)
    part, row = rows[i % len(rows)]
    pictures = {"original": original, "student's view": _picture(part.images[row], datamodule.normalisation)}
    if teacher is not None:
        asked = part.images[row] if part is batch or datamodule.teacher_sees == "both" else batch.images[i]
        normalisation = teacher.teacher or datamodule.normalisation
        pictures["teacher's view"] = _picture(teacher(asked[None])[0], normalisation)
    words = caption(part.targets[row], datamodule.info.class_names)
    words = words if batch.pasted is None else f"{words}, by area (TransMix: by attention)"
    return ViewExample(pictures, words if len(rows) == 1 else f"view {i % len(rows) + 1} of {len(rows)}: {words}")


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


def _shown_stages(config: DictConfig, run: RunFolder) -> dict[str, StageConfig]:
    """The stage that stands for the 'student', and that of the 'teacher', as far as the run has them."""
    stages = {}
    if (name := next((name for name in ("student", "baseline") if name in config.stages), None)) is not None:
        stages["student"] = make_stage(config, run, name)
    if "teacher" in config.stages or any(stage.distils for stage in stages.values()):
        stages["teacher"] = make_stage(config, run, "teacher")
    return stages


def _teacher_input(stage: StageConfig, data: LongTailDataModule, teacher: LongTailDataModule) -> TeacherInput:
    """How the teacher will see the student's images: the one that is given, or the recipe's, untrained yet."""
    image_size, normalisation = teacher.image_size, teacher.normalisation
    if (given := stage.run["teacher"]["checkpoint"]) is not None:
        spec = check_teacher(find_checkpoint(given, ("teacher",)), data, stage.run["teacher"]).spec
        image_size, normalisation = spec.image_size, spec.normalisation
    options = stage.recipe["teacher_input"]
    return TeacherInput(
        image_size,
        options["antialias"],
        data.normalisation if options["renormalise"] else None,
        normalisation if options["renormalise"] else None,
    )


def _rows(batch: Batch, i: int) -> list[tuple[Batch, int]]:
    """Where the views of image i stand: the part of the batch, and the row in it."""
    return [(part, row) for part in batch.parts for row in range(i, len(part.images), EXAMPLES)]


def _picture(image: Tensor, normalisation: Normalisation) -> Picture:
    """image: [3, H, W], normalised -> [H, W, 3] in [0, 1]."""
    pixels: Picture = denormalise(image, normalisation).permute(1, 2, 0).numpy()
    return pixels
