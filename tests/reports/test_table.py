from pathlib import Path

import pytest
from rich.console import Console

from deitlt.reports import accuracy_rows, group_sizes_line, results_lines, results_table


def rendered(table, styles=False):
    console = Console(record=True, width=140, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(table)
    return console.export_text(styles=styles)


def row(text, label):
    (line,) = [line for line in text.splitlines() if label in line]
    return [cell.strip() for cell in line.strip("│┃").split("│")]


def test_rows_stand_in_order_under_their_names(metrics):
    labels = [row.label for row in accuracy_rows(metrics)]
    assert labels == ["teacher", "student CLS", "student DIST", "student AVG", "student (EMA) CLS", "plain ViT"]


def test_a_baseline_with_two_tokens_names_them(metrics):
    metrics["baseline"]["dist"] = metrics["baseline"]["cls"]
    assert [row.label for row in accuracy_rows(metrics)][-2:] == ["plain ViT CLS", "plain ViT DIST"]


def test_parts_that_were_not_trained_have_no_row(metrics):
    del metrics["teacher"], metrics["student_ema"]
    metrics["baseline"] = None
    assert [row.part for row in accuracy_rows(metrics)] == ["student"] * 3


def test_the_table_shows_each_number_in_its_column(metrics):
    text = rendered(results_table(metrics, "digits-LT, imbalance 20"))
    assert [column.header for column in results_table(metrics, "x").columns] == [
        *("", "all", "head", "mid", "tail", "top5")
    ]
    assert row(text, "teacher") == ["teacher", "95.0", "99.0", "95.2", "90.0", "99.9"]
    assert row(text, "student DIST") == ["student DIST", "86.1", "94.0", "90.0", "69.3", "98.0"]
    assert row(text, "plain ViT") == ["plain ViT", "74.4", "99.4", "81.0", "27.6", "-"]
    assert "digits-LT, imbalance 20, protocol: last" in text


def test_the_best_of_each_column_is_bold_and_so_are_ties(metrics):
    table = results_table(metrics, "x")
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["all"][0] == "[bold]95.0[/bold]"
    assert sum("bold" in cell for cell in cells["all"]) == 1
    assert [i for i, cell in enumerate(cells["head"]) if "bold" in cell] == [1, 5]
    assert "\x1b[1m95.0" in rendered(table, styles=True)


def test_balanced_has_a_column_only_where_it_says_something_else(metrics):
    metrics["teacher"]["balanced"] = 95.08
    assert "balanced" not in [column.header for column in results_table(metrics, "x").columns]
    metrics["teacher"]["balanced"] = 94.9
    assert [column.header for column in results_table(metrics, "x").columns][1:3] == ["all", "balanced"]


def test_an_absent_group_has_no_column(metrics):
    for accuracy in (metrics["teacher"], *metrics["student"].values()):
        accuracy["mid"] = None
    for part in ("student_ema", "baseline"):
        del metrics[part]["cls"]["mid"]
    assert "mid" not in [column.header for column in results_table(metrics, "x").columns]


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
    metrics["protocol"] = protocol
    assert words in results_table(metrics, "x").caption


def test_a_title_with_brackets_is_no_markup(metrics):
    assert "my [bold] set" in rendered(results_table(metrics, "my [bold] set"))


def test_group_sizes_count_classes_and_images(metrics):
    line = "head: 2 classes, 1,260 images; mid: 2 classes, 42 images; tail: 1 class, 1 image"
    assert group_sizes_line(metrics) == line
    del metrics["groups"]
    assert group_sizes_line(metrics) == ""


def test_lines_below_the_table_name_differences_and_folder(metrics):
    lines = results_lines(metrics, Path("outputs/x"))
    assert lines[1] == "differs from the recipe: student.epochs is 150, the recipe says 1200"
    assert lines[2] == "run folder: outputs/x"
    assert len(results_lines(metrics)) == 2
