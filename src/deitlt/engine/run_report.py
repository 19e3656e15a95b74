"""The page that a run of `deitlt train` ends with: report.html in its folder."""

from collections.abc import Iterable, Sequence

from rich.console import Console

from deitlt.commands.report import PAGE
from deitlt.engine.run_folder import RunFolder, write_text
from deitlt.engine.stage_config import StageConfig
from deitlt.reports.page import report_html
from deitlt.reports.runs import read_runs


def write_run_report(run: RunFolder, stages: Iterable[StageConfig], console: Console) -> None:
    """Draw what the stages saw, write the page, and say where it lies; what goes wrong is said, and loses no run.

    Args:
        run: a finished run.
        stages: what was trained, a student with its teacher's checkpoint; asked for once, and it may fail.
        console: where to say it.
    """
    page = run.path / PAGE
    try:
        _draw_views(run, list(stages))
        write_text(page, report_html(read_runs([run.path])))
        said = f"report: {page}"
    except Exception as error:  # whatever it is: the run is finished, and its numbers are written
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        said = f"no report was written ({reason[0]}); type deitlt report {run.path} --html={page} when that is mended."
    console.print(said, highlight=False, soft_wrap=True, markup=False)


def _draw_views(run: RunFolder, stages: Sequence[StageConfig]) -> None:
    """A picture for the teacher and one for the student, or for the plain ViT where there is none."""
    from deitlt.engine.stage_views import draw_views  # it looks at stages as `deitlt train` makes them

    has_student = any(stage.name == "student" for stage in stages)
    for stage in stages:
        picture = run.stage(stage.name) / "views.png"
        if not picture.exists() and not (has_student and stage.name == "baseline"):
            draw_views(stage, picture)
