import copy
import csv
import json

import pytest
from rich.console import Console

from deitlt.reports.runs import Run, read_runs
from deitlt.reports.tables import (
    Cell,
    Row,
    Table,
    analysis_lines,
    analysis_table,
    by_data,
    cost_table,
    csv_text,
    data_title,
    markdown,
    per_class_table,
    results_lines,
    results_table,
    summary_markdown,
    summary_rows,
    terminal,
)


def test_every_writer_gives_the_same_cells():
    table = Table(["run", "all", "state"], [Row("a|b", [Cell("8.0", "1.0"), Cell()], "x")], left=("state",))
    assert markdown(table) == ["| run | all | state |", "| --- | ---: | --- |", "| x, a\\|b | 8.0 ± 1.0 | - |"]
    assert list(csv.reader(csv_text(table).splitlines())) == [["run", "all", "state"], ["x, a|b", "8.0 ± 1.0", ""]]
    assert row(rendered(terminal(table)), "x, a|b")[1:] == ["8.0 ± 1.0", "-"]


def test_what_networks_cost_stands_once_for_the_seeds_of_an_experiment(make_run):
    cost = {
        "teacher": {"parameters": 463_504, "macs": 69_125_834, "images_seen": 2_481_200, "machine": "2 threads of X"}
    }
    runs = [make_run("0", cost=cost), make_run("1", cost=cost, seed=1)]
    table = cost_table(runs)
    ((name, *cells),) = [[line.label, *map(str, line.cells)] for line in table.rows]
    assert [name, *cells[1:]] == ["teacher", "0.464", "69.1", "2.48", "20 s"]
    assert "depth 4" in cells[0]
    assert "on 2 threads of X." in table.note
    assert markdown(table)[2] in summary_markdown(runs)
    older = make_run("2")
    assert cost_table([older]) is None


def test_the_table_by_class_has_a_gap_where_nothing_was_tested(metrics):
    text = csv_text(per_class_table(metrics, {"CLS": [1.0, 2.0, 3.456, 4.0, None]}))
    assert text.splitlines()[0] == "class,group,train_images,CLS"
    assert text.splitlines()[3:] == ["c,mid,30,3.46", "d,mid,12,4.00", "e,tail,1,"]


def rendered(table, styles=False):
    console = Console(record=True, width=140, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(table)
    return console.export_text(styles=styles)


def row(text, label):
    (line,) = [line for line in text.splitlines() if label in line]
    return [cell.strip() for cell in line.strip("│┃").split("│")]


def test_the_table_shows_each_number_in_its_column(metrics):
    text = rendered(terminal(results_table(metrics, "my [bold] set, imbalance 20")))
    assert results_table(metrics, "x").columns == ["", "all", "head", "mid", "tail", "top5"]
    assert row(text, "teacher") == ["teacher", "95.0", "99.0", "95.2", "90.0", "99.9"]
    assert row(text, "student DIST") == ["student DIST", "86.1", "94.0", "90.0", "69.3", "98.0"]
    assert row(text, "plain ViT") == ["plain ViT", "74.4", "99.4", "81.0", "27.6", "-"]
    assert "my [bold] set, imbalance 20, protocol: last" in text


def test_the_best_of_each_column_is_bold_and_so_are_ties(metrics):
    table = results_table(metrics, "x")
    everywhere, head = ([row.cells[column].best for row in table.rows] for column in (0, 1))
    assert everywhere == [True, *[False] * 5]
    assert [i for i, best in enumerate(head) if best] == [1, 5]
    assert "\x1b[1m95.0" in rendered(terminal(table), styles=True)


def test_balanced_has_a_column_only_where_it_says_something_else(metrics):
    metrics["teacher"]["balanced"] = 95.08
    assert "balanced" not in results_table(metrics, "x").columns
    metrics["teacher"]["balanced"] = 94.9
    assert results_table(metrics, "x").columns[1:3] == ["all", "balanced"]


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("last", "last epoch"),
        ("val", "best epoch on the validation split"),
        ("paper", "best epoch on the TEST set, as the paper's code chose it: optimistic"),
        (None, "of the checkpoint that was named"),
    ],
)
def test_the_caption_says_the_protocol_in_words(metrics, protocol, words):
    assert words in results_table({**metrics, "protocol": protocol}, "x").note


def test_the_line_below_the_table_counts_classes_and_images_and_repeats_no_difference(metrics):
    line = "head: 2 classes, 1,260 images; mid: 2 classes, 42 images; tail: 1 class, 1 image"
    assert metrics["recipe_differences"]
    assert results_lines(metrics) == [line]
    del metrics["groups"]
    assert results_lines(metrics) == []


def write(folder, metrics, **changes):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({**copy.deepcopy(metrics), **changes}))
    return folder


def test_markdown_gives_mean_spread_and_seeds(tmp_path, metrics):
    for seed, accuracy in enumerate((84.0, 86.0, 88.0)):
        metrics["student"]["dist"]["all"] = accuracy
        write(tmp_path / "digits" / str(seed), metrics, seed=seed)
    lines = summary_markdown(read_runs([tmp_path])).splitlines()
    assert lines[0] == "| run | all | head | mid | tail | seeds |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    row = "| digits (changed recipe 1), student DIST | 86.0 ± 2.0 | 94.0 ± 0.0 | 90.0 ± 0.0 | 69.3 ± 0.0 | 3 |"
    assert row in lines
    assert lines[-3].endswith("Protocol: last epoch.")
    assert lines[-1] == "- changed recipe 1: student.epochs is 150, the recipe says 1200"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"seed": 0}, {"digits (changed recipe 1, 0)", "digits (changed recipe 1, 1)"}),
        ({"seed": 1, "recipe_differences": []}, {"digits (changed recipe 1)", "digits"}),
    ],
)
def test_the_same_seed_twice_and_other_settings_are_not_averaged(tmp_path, metrics, changes, names):
    write(tmp_path / "0", metrics, seed=0)
    write(tmp_path / "1", metrics, **changes)
    rows = summary_rows(read_runs([tmp_path]))
    assert {row.experiment for row in rows} == names
    assert {row.seeds for row in rows} == {1}


def test_protocols_are_not_mixed_and_all_named(tmp_path, metrics):
    write(tmp_path / "0", metrics, seed=0)
    write(tmp_path / "1", metrics, seed=1, protocol="paper")
    text = summary_markdown(read_runs([tmp_path]))
    assert "| digits (last, changed recipe 1), teacher | 95.0 |" in text
    assert "| digits (paper, changed recipe 1), teacher | 95.0 |" in text
    assert "last epoch; best epoch on the TEST set" in text


def test_runs_of_one_data_set_stand_together_and_equal_titles_are_numbered(tmp_path, metrics):
    runs = [Run(tmp_path / str(i), "digits", i, dict(metrics)) for i in range(4)]
    runs[1].metrics["class_names"] = list("vwxyz")
    runs[3].metrics["counts"] = [1, 2, 3, 4, 5]
    title = data_title(metrics)
    assert title == "data without a name, as it is: 5 classes, 1,303 images"
    other = "data without a name, as it is: 5 classes, 15 images"
    assert {title: len(found) for title, found in by_data(runs).items()} == {title: 2, f"{title} (2)": 1, other: 1}
    assert data_title({**metrics, "data": "digits", "imbalance_factor": 0.05}).startswith("digits, imbalance 20: 5 cl")


def test_different_data_do_not_share_a_table(tmp_path, metrics):
    write(tmp_path / "0", metrics)
    write(tmp_path / "1", metrics, counts=[1200, 600, 300, 120, 10])
    text = summary_markdown(read_runs([tmp_path]))
    assert text.count("\n| --- |") == text.count("## ") == 2
    assert text.startswith("## data without a name, as it is: 5 classes, 1,303 images\n\n| run |")


_WHOLE = {"eigenvalue": 70.0, "trace": 500.0, "trace_error": 108.0, "images": 1200}
_TAIL = {"eigenvalue": 8.0, "trace": -3.0, "trace_error": 0.0, "images": 25}


def test_the_hessian_counts_each_groups_images_and_names_a_saddle():
    found = {"kind": "teacher", "sharpness": {"all": _WHOLE, "tail": _TAIL}}
    assert analysis_lines(found) == [
        "Hessian: of the loss of 1,200 training images (tail 25)",
        "Hessian: a negative trace is a saddle's, so these weights are at no minimum",
    ]
    assert analysis_lines({"kind": "teacher", "sharpness": {"all": _WHOLE}}) == [
        "Hessian: of the loss of 1,200 training images"
    ]


def test_an_analysis_has_a_column_for_each_group_and_means_over_seeds(make_run, student_analysis):
    teacher = {"kind": "teacher", "sharpness": {"all": {"eigenvalue": 4.0, "trace": 30.0, "trace_error": 3.0}}}
    found = analysis_table({"student": [student_analysis(), student_analysis(shift=2.0)], "teacher": [teacher] * 2})
    rows = {(row.group, row.label): [str(cell) for cell in row.cells] for row in found.rows}
    assert found.columns == ["", "all", "head", "tail"]
    assert rows["student", "CLS and DIST disagree, %"] == ["15.0", "5.0", "30.0"]
    assert rows["student", "calibration error of CLS, %"] == ["8.0", "-", "40.0"]
    assert rows["student", "teacher right on mixed images, %"] == ["60.0", "-", "20.0"]
    assert rows["teacher", "Hessian: trace"][0] == "30 ± 2.12"  # of the mean of two
    assert analysis_table({"student": [{"kind": "student", "epoch": 4}]}) is None
