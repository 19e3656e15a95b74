"""`deitlt inspect`: pictures of what the student and the teacher will see, and of the long tail."""

from dataclasses import replace

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor
from torch.utils.data import default_collate

from deitlt.data import LongTailDataModule
from deitlt.data.dataset import ViewedImages
from deitlt.data.samplers import Draw
from deitlt.figures import ViewExample, class_histogram, view_grid
from deitlt.tasks.building import build_data
from deitlt.tasks.run_folder import RunFolder
from deitlt.tasks.stage_config import check_run
from deitlt.tasks.train import make_stage
from deitlt.types import StudentBatch
from deitlt.views import TeacherView, denormalise

VIEWS, CLASSES = "views.png", "classes.png"
EXAMPLES = 8  # a batch of so many is mixed and shown


def main(config: DictConfig) -> None:
    """Write views.png and classes.png into the output folder."""
    check_run(config)
    run = RunFolder.of_job(config)
    datamodule = build_data(make_stage(config, run, "student"))
    info = datamodule.info
    run.path.mkdir(parents=True, exist_ok=True)
    examples = view_examples(datamodule, _teacher_view(config, run, datamodule), config.seed)
    pictures = [
        view_grid(examples, run.path / VIEWS),
        class_histogram(info.counts, info.class_names, info.groups, run.path / CLASSES),
    ]
    Console().print(*pictures, sep="\n", highlight=False, soft_wrap=True, markup=False)


def view_examples(datamodule: LongTailDataModule, teacher: TeacherView, seed: int) -> list[ViewExample]:
    """One batch of images from all over the classes, as student and teacher see it.

    It is mixed if training mixes at all, however rarely, since that is what one wants to see.
    """
    source, info = datamodule.splits.train, datamodule.info
    # Spread over the classes from the most frequent to the rarest.
    by_count = sorted(range(info.num_classes), key=lambda c: -info.counts[c])
    shown = [by_count[round(i * (info.num_classes - 1) / (EXAMPLES - 1))] for i in range(EXAMPLES)]
    rng = np.random.default_rng(seed)
    chosen = [int(rng.choice(np.flatnonzero(source.labels == c))) for c in shown]
    viewed = ViewedImages(source, datamodule.view(datamodule.image_size, datamodule.normalisation), seed, rank=0)
    views = default_collate([viewed[Draw(0, i, repeat)][0] for repeat, i in enumerate(chosen)])
    targets = torch.tensor([int(source.labels[i]) for i in chosen])
    if datamodule.mixing_factory is not None:
        always = replace(datamodule.mixing_factory(info.num_classes), probability=1.0)
        datamodule.mixing_factory = lambda num_classes: always
    batch = datamodule.complete(views, targets, rng)
    seen = [_one_view(batch, i, datamodule.teacher_sees) for i in range(EXAMPLES)]
    return [
        ViewExample(
            _picture(denormalise(student, datamodule.normalisation)),
            _picture(denormalise(teacher(taught[None])[0], teacher.teacher or datamodule.normalisation)),
            caption(target, info.class_names),
            np.asarray(source[index]),
        )
        for index, (student, taught, target) in zip(chosen, seen, strict=True)
    ]


def _one_view(batch: StudentBatch, i: int, teacher_sees: str) -> tuple[Tensor, Tensor, Tensor]:
    """Of image i the student's view, what the teacher labels for it, and the target.

    Where an image has several views, the first image shows the first of them, the next image the second.
    """
    rows = [(part, row) for part in batch.parts for row in range(i, len(part.images), EXAMPLES)]
    part, row = rows[i % len(rows)]
    asked = part.images[row] if part is batch or teacher_sees == "both" else batch.images[i]
    return part.images[row], asked, part.targets[row]


def caption(target: Tensor, names: tuple[str, ...]) -> str:
    """target: a class id, or probabilities [C]; the classes that the image was mixed of, in words."""
    if target.ndim == 0:
        return names[int(target)]
    floor = float(target.min())
    mixed = [(float(share), names[c]) for c, share in enumerate(target) if float(share) > floor + 1e-6]
    return " + ".join(f"{share:.2f} {name}" for share, name in sorted(mixed, reverse=True))


def _teacher_view(config: DictConfig, run: RunFolder, datamodule: LongTailDataModule) -> TeacherView:
    """How the configured teacher will see the student's images; it need not be trained yet."""
    teacher = build_data(make_stage(config, run, "teacher"))
    options = config.student.teacher_view
    return TeacherView(
        teacher.image_size,
        options.antialias,
        datamodule.normalisation if options.renormalise else None,
        teacher.normalisation if options.renormalise else None,
    )


def _picture(image: Tensor) -> np.ndarray:
    """image: [3, H, W] in [0, 1] -> [H, W, 3]."""
    pixels: np.ndarray = image.permute(1, 2, 0).numpy()
    return pixels
