"""What was measured of the training of stages, as a table: a row a figure, a column a stage."""

from collections.abc import Callable
from typing import Any

Plain = dict[str, Any]
Cell = Callable[[Plain], str]
NONE = "-"


def training_table(found: Plain) -> list[list[str]]:
    """The results: a row a figure, a column a stage; the first row names the columns."""
    stages = found["stages"]
    rows = [["measured", *stages]]
    for words, cell in ROWS:
        cells = [_cell(cell, stage) for stage in stages.values()]
        if any(text != NONE for text in cells):
            rows.append([words, *cells])
    if found["sam"]:
        ratios = {f"sam_{name}": f"{one['sam_over_plain']:.2f}" for name, one in found["sam"].items()}
        rows.append(["step with SAM over without, time", *(ratios.get(name, NONE) for name in stages)])
    peaks = [
        [f"matrix peak in {precision}", *[_operations(max(sizes.values()), "/s")] + [""] * (len(stages) - 1)]
        for precision, sizes in found["matrix_peak"].items()
    ]
    return rows + peaks


def _cell(cell: Cell, stage: Plain) -> str:
    """A figure of a stage, or that there is none."""
    try:
        return cell(stage)
    except (KeyError, TypeError):
        return NONE


def _speed(name: str) -> Cell:
    return lambda stage: f"{stage['images_per_second'][name]:,.0f}"


def _milliseconds(name: str) -> Cell:
    return lambda stage: f"{stage['milliseconds_per_batch'][name]:.1f}"


def _over_timm(name: str) -> Cell:
    return lambda stage: f"{stage['over_timm'][name]:.2f}"


def _memory(name: str) -> Cell:
    return lambda stage: f"{stage['memory'][name]:,.0f} MiB"


def _operations(number: float, unit: str = "") -> str:
    """Operations with a prefix that reads well."""
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= factor:
            return f"{number / factor:.2f} {prefix}FLOP{unit}"
    return f"{number:.0f} FLOP{unit}"


def _of_stage(name: str) -> Cell:
    return lambda stage: _operations(stage[name]) if stage[name] else NONE


def _compiled(stage: Plain) -> str:
    configuration = stage["configuration"]
    return f"{configuration['precision']}{', compiled' if configuration['compile'] else ''}"


ROWS: list[tuple[str, Cell]] = [
    ("precision", _compiled),
    ("images a batch", lambda stage: str(stage["configuration"]["batch_images"])),
    ("pixels a side", lambda stage: str(stage["configuration"]["image_size"])),
    ("input alone, images/s", _speed("input")),
    ("step alone, images/s", _speed("step")),
    ("the whole, images/s", _speed("whole")),
    ("the whole in a bare loop, images/s", _speed("bare")),
    ("Lightning over bare loop, time", lambda stage: f"{stage['lightning_over_bare']:.3f}"),
    ("waiting for the loader", lambda stage: f"{stage['waiting_share']:.1%}"),
    ("waiting at epochs' ends", lambda stage: f"{stage['waiting_share_between_epochs']:.1%}"),
    ("loader, ms a batch", _milliseconds("loader")),
    ("views and mixing, ms a batch", _milliseconds("hook")),
    ("teacher's answers, ms a batch", _milliseconds("teacher")),
    ("step, ms a batch", _milliseconds("step")),
    ("the whole, ms a batch", _milliseconds("whole")),
    ("step, matrix work an image", _of_stage("operations_per_image")),
    ("teacher, matrix work an image", _of_stage("teacher_operations_per_image")),
    ("step, share of matrix peak", lambda stage: f"{stage['share_of_peak']['step']:.1%}"),
    ("the whole, share of matrix peak", lambda stage: f"{stage['share_of_peak']['whole']:.1%}"),
    ("peak memory", _memory("mib")),
    ("  of its workers", _memory("workers_mib")),
    ("first update done after, s", lambda stage: f"{stage['first_step_seconds']:.1f}"),
    ("input over timm's, images/s", _over_timm("input")),
    ("step over timm's, images/s", _over_timm("step")),
    ("the whole over timm's, images/s", _over_timm("whole")),
]
