import json

import pytest
from rich.console import Console

from deitlt.reports.sweep import (
    SweepJob,
    best_job,
    read_job,
    read_jobs,
    sweep_markdown,
    sweep_table,
    swept_keys,
)
from deitlt.reports.sweep_figure import make_axis, parallel_coordinates
from deitlt.reports.tables import terminal

METRIC = "val/student/avg/balanced"


def cells(jobs, direction):
    """Header and rows of the table."""
    table = sweep_table(jobs, direction)
    return table.columns, [[row.label, *map(str, row.cells)] for row in table.rows]


def job(number, value, state="finished", metric=METRIC, **settings):
    overrides = [f"{key}={word}" for key, word in {"method": "vit", "seed": number, **settings}.items()]
    accuracy = {} if value is None else {"all": value, "tail": value / 2}
    return SweepJob(f"/sweep/{number}", overrides, state, metric, None, value, accuracy, 12.3)


def test_the_keys_that_were_swept_are_those_that_differ():
    assert swept_keys([job(0, 1.0), job(1, 1.0)]) == ["seed"]
    assert swept_keys([job(0, 1.0), job(0, 1.0, alpha=0.5)]) == ["alpha"]
    assert swept_keys([job(0, 1.0)]) == []


def test_the_best_finished_job_comes_first_then_pruned_ones_then_the_others():
    jobs = [job(0, None, "killed"), job(1, 99.0, "pruned"), job(2, 50.0), job(3, 60.0), job(4, None)]
    header, rows = cells(jobs, "maximize")
    assert header == ["job", "seed", METRIC, "tail", "seconds", "state"]
    assert [row[0] for row in rows] == ["3", "2", "4", "1", "0"]
    assert rows[0] == ["3", "3", "60.0", "30.0", "12", "finished"]
    assert [row[0] for row in cells(jobs, "minimize")[1]][:2] == ["2", "3"]


def test_a_pruned_job_is_never_the_best():
    assert best_job([job(0, 99.0, "pruned"), job(1, 50.0)], "maximize").settings["seed"] == "1"
    assert best_job([job(0, 99.0, "pruned"), job(1, None, "failed")], "maximize") is None


def test_jobs_that_are_compared_by_different_numbers_each_say_by_which():
    header, rows = cells([job(0, 1.0), job(1, 2.0, metric="student/cls/balanced")], "maximize")
    assert header[2:4] == ["value", "of"]
    assert rows[0][3] == "student/cls/balanced"


def test_the_table_says_where_it_was_measured_and_how_many_jobs_came_to_what():
    jobs = [job(0, 1.0), job(1, None, "killed")]
    text = sweep_markdown(jobs, "maximize", "deitlt train seed=0")
    assert "on the validation split. Jobs: 1 finished, 1 killed." in text
    assert "    deitlt train seed=0" in text
    assert "on the TEST set" in sweep_markdown([job(0, 1.0, metric="student/avg/all")], "maximize", None)
    console = Console(record=True, width=120)
    console.print(terminal(sweep_table([job(0, 1.0, alpha="[a,b]"), job(1, 2.0)], "maximize")))
    assert "[a,b]" in console.export_text()


def test_jobs_are_read_in_their_order_and_broken_files_are_no_jobs(tmp_path):
    for number in (10, 2, 0):
        folder = tmp_path / str(number)
        folder.mkdir()
        plain = SweepJob(str(folder), [], "finished", METRIC).as_plain()
        (folder / "job.json").write_text(json.dumps(plain))
    (tmp_path / "0" / "job.json").write_text("{")
    assert read_job(tmp_path / "0") is None
    assert read_job(tmp_path / "none") is None
    assert [found.folder.rpartition("/")[2] for found in read_jobs(tmp_path)] == ["2", "10"]


@pytest.mark.parametrize(
    ("words", "places"),
    [
        (["0", "1", "4"], [0, 0.25, 1]),  # to scale
        (["1", "10", "100"], [0, 0.5, 1]),  # logarithmic
        (["b", "a", "c", "a"], [0.5, 0, 1, 0]),  # evenly spaced names
        (["nan", "1"], [1, 0]),
        (["ldam", "ldam"], [0.5, 0.5]),  # one alone stands in the middle
        (["3", "3"], [0.5, 0.5]),
    ],
)
def test_an_axis_of_numbers_is_to_scale_and_names_are_evenly_spaced(words, places):
    axis = make_axis(words)
    assert list(axis.places) == pytest.approx(places)
    assert axis.ticks == dict(zip(axis.places, words, strict=True))


@pytest.mark.parametrize(
    ("numbers", "ticks"),
    [
        ([x / 10 for x in range(30)], ["0", "0.725", "1.45", "2.17", "2.9"]),
        ([10.25 + x / 40 for x in range(11)], ["10.25", "10.31", "10.38", "10.44", "10.5"]),
        ([86 + x / 1000 for x in range(11)], ["86", "86.002", "86.005", "86.008", "86.01"]),
        ([10.0**x for x in range(-5, 5)], ["1e-05", "0.00178", "0.316", "56.2", "1e+04"]),
    ],
)
def test_many_numbers_have_a_few_ticks_in_the_digits_that_tell_them_apart(numbers, ticks):
    axis = make_axis([str(number) for number in numbers])
    assert list(axis.ticks) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert list(axis.ticks.values()) == ticks
    assert all(0 <= place <= 1 + 1e-9 for place in axis.places)


def test_the_picture_is_as_wide_as_there_are_settings():
    settings = {"student.optimizer.lr": ["1e-4", "1e-3", "1e-2"], "teacher/loss": ["ldam", "ldam", "ce"]}
    wide = parallel_coordinates(settings, [1.0, 3.0, 2.0], "val/student/avg/tail", [False, True, False])
    narrow = parallel_coordinates({"seed": ["0", "1"]}, [1.0, 1.0], "x", [False, False])
    assert wide.get_figwidth() > narrow.get_figwidth()


NONE = [False] * 3


@pytest.mark.parametrize(
    ("stopped", "direction", "best"),
    [
        (NONE, "maximize", 2),
        (NONE, "minimize", 0),
        ([False, False, True], "maximize", 1),
        ([True] * 3, "maximize", None),
    ],
)
def test_the_best_complete_line_is_thick_and_in_the_legend(stopped, direction, best):
    figure = parallel_coordinates({"seed": ["0", "1", "2"]}, [1.0, 2.0, 3.0], "x", stopped, direction)
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() == 3.4]
    legend = figure.legends[0]
    named = dict(zip([text.get_text() for text in legend.get_texts()], legend.legend_handles, strict=True))
    assert ("best" in named) == bool(thick) == (best is not None)
    assert [named["best"].get_color() for _ in thick] == [line.get_color() for line in thick]
    assert [line.get_ydata()[-1] for line in thick] == ([] if best is None else [best / 2])
