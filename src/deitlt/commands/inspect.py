"""`deitlt inspect`: pictures of what the student and the teacher will see, the long tail, and what its files are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from rich.console import Console

from deitlt.checkpoints import check_teacher, find_checkpoint
from deitlt.data import LongTailDataModule
from deitlt.data.file_checks import SeenFiles
from deitlt.data.images import path_of
from deitlt.engine.build import build_data, build_teacher_input
from deitlt.engine.checks import check_data, check_run
from deitlt.engine.examples import device_operations, student_examples, teacher_examples
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import StageConfig, make_stage
from deitlt.longtail import by_frequency
from deitlt.reports.class_figures import class_histogram
from deitlt.reports.figures import save_figure
from deitlt.reports.image_figures import image_grid
from deitlt.reports.tables import NOTHING, Cell, Row, Table, terminal
from deitlt.transforms import TeacherInput

_SHOWN_CLASSES = 100  # of more, the most and the least frequent, and those with broken files


def main(config: DictConfig) -> None:
    """Print the table of the classes, and where the pictures of what the networks will see lie."""
    look(config, Console())


def look(config: DictConfig, console: Console) -> tuple[Table, list[Path]]:
    """Write the pictures of what the run's stages will see into the output folder.

    views.png: the student's training views, and what its teacher, if it has one, is asked about; of the
    baseline where `stages` has no student, and absent where it has neither. teacher_views.png: the teacher's
    own training views, by the recipe, where `stages` has a teacher or the student learns from one.
    operations.png: RandAugment on the device beside timm's, where the student's views are made there.
    classes.png: the classes' counts, always. Every file is looked at as `train` does, and a table says what of each
    class was found, before a broken file is an error; a line, whether there are as many images as were published.

    Returns:
        The table, and the pictures' files.
    """
    check_run(config)
    run, tables = RunFolder.of_job(config), []

    def tell(data: LongTailDataModule, seen: SeenFiles) -> None:
        tables.append(class_table(data, seen))
        console.print(terminal(tables[0]))
        if line := published_counts(data):
            console.out(line, style="yellow" if line.startswith("warning") else None, highlight=False)

    check_data(config, run, tell)
    stages = [make_stage(config, run, name) for name in config.stages]
    students = sorted((stage for stage in stages if stage.kind == "student"), key=lambda stage: stage.name != "student")
    data, pages, teacher = build_data([*students, *stages][0]), {}, None
    if "teacher" in config.stages or any(stage.distils for stage in students):
        teacher = build_data(make_stage(config, run, "teacher"))
    if students:
        title, asked = f"What the {students[0].name} trains on", None
        if students[0].distils:
            assert teacher is not None
            title, asked = f"{title}, and what its teacher is asked about", _teacher_input(students[0], data, teacher)
        pages["views.png"] = title, student_examples(data, asked, config.seed)
        if beside := device_operations(data, config.seed):
            pages["operations.png"] = "RandAugment by timm and on the device", beside
    if teacher is not None:
        whose = "the teacher" if config.teacher.checkpoint is None else "the recipe's teacher"
        pages["teacher_views.png"] = f"What {whose} trains on", teacher_examples(teacher, config.seed)
    figures = {name: image_grid(examples, title) for name, (title, examples) in pages.items()}
    figures["classes.png"] = class_histogram(data.info.counts, data.info.class_names, data.info.groups)
    pictures = [save_figure(figure, run.path / name) for name, figure in figures.items()]
    console.out(*pictures, sep="\n", highlight=False)
    return tables[0], pictures


def class_table(data: LongTailDataModule, seen: SeenFiles) -> Table:
    """A row a class, from the most to the least frequent: images of each split, their sizes in pixels, broken files.

    Args:
        data: opened; broken files that are left out are no images of it.
        seen: what was found of its files; of none that were not decoded.
    """
    info, splits = data.info, data.splits
    parts = {name: part for name in ("train", "val", "test") if (part := getattr(splits, name)) is not None}
    counts = {name: np.bincount(part.labels, minlength=info.num_classes) for name, part in parts.items()}
    in_memory = path_of(splits.train) is None
    sizes: list[list[tuple[int, int]]] = [[splits.train[0].size] if in_memory else [] for _ in info.counts]
    broken = [0] * info.num_classes
    for one in seen.values():
        if one.size is None:
            broken[one.label] += 1
        else:
            sizes[one.label].append(one.size)
    order = by_frequency(info.counts).tolist()
    shown = [c for i, c in enumerate(order) if min(i, len(order) - 1 - i) < _SHOWN_CLASSES // 2 or broken[c]]
    rows = []
    for c in shown:
        found = Cell(str(broken[c])) if in_memory or seen else Cell()
        cells = [Cell(str(counts[name][c])) for name in parts]
        rows.append(Row(info.class_names[c], [*cells, Cell(_extremes(sizes[c])), found]))
    notes = [] if len(shown) == len(order) else [f"{len(shown)} of {len(order)} classes: both ends, and what is broken"]
    notes += [] if in_memory or seen else ["data.verify=true finds sizes and broken files"]
    return Table(("class", *parts, "sizes", "broken"), rows, f"{data.title}: images", "; ".join(notes))


def published_counts(data: LongTailDataModule) -> str | None:
    """Whether each split has as many images as were published, in a sentence; None where nobody knows how many."""
    splits, split, known = data.splits, data.split, data.spec.published
    is_share = split.val_fraction > 0  # held out from the training images, else a list of its own
    val = 0 if splits.val is None else len(splits.val)
    found = {("train", split.imbalance_factor): len(splits.train) + val * is_share, ("test", None): len(splits.test)}
    if val and not is_share:
        found["val", None] = val
    if split.max_count is not None or split.imbalance_kind != "exp" or not found.keys() <= known.keys():
        return None
    words = {"train": "training", "val": "held-out", "test": "test"}
    wrong = [f"{n:,} {words[key[0]]} images, not {known[key]:,}" for key, n in found.items() if n != known[key]]
    if wrong:
        return (
            f"warning: {data.title} is not as published: it has {', and '.join(wrong)}; docs/data.md names the files."
        )
    return f"as published: {', '.join(f'{n:,} {words[name]}' for (name, _), n in found.items())} images"


def _extremes(sizes: Sequence[tuple[int, int]]) -> str:
    """The smallest and the largest size, by area."""
    found = [f"{width}x{height}" for width, height in sorted(set(sizes), key=lambda size: size[0] * size[1])]
    return " to ".join(dict.fromkeys([found[0], found[-1]])) if found else NOTHING


def _teacher_input(student: StageConfig, data: LongTailDataModule, teacher: LongTailDataModule) -> TeacherInput:
    """How the teacher will see the student's images: the one that is given, or the recipe's, untrained yet."""
    given = student.run["teacher"]["checkpoint"]
    if given is None:
        return build_teacher_input(student, data, teacher.image_size, teacher.normalisation)
    spec = check_teacher(find_checkpoint(given, ("teacher",)), data, student.run["teacher"]).spec
    return build_teacher_input(student, data, spec.image_size, spec.normalisation)
