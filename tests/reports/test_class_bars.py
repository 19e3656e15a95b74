import pytest

from deitlt.reports.class_bars import FEW_CLASSES, class_bars


def test_each_of_a_few_classes_has_a_row_from_frequent_to_rare(make_run):
    bars = class_bars("digits", [make_run()])
    assert [(group, [row.label for row in rows]) for group, rows in bars.groups] == [
        ("head", ["a", "b"]),
        ("mid", ["c", "d"]),
        ("tail", ["e"]),
    ]
    rare = bars.groups[-1][1][0]
    assert rare.recalls == {"CLS": 27.2, "DIST": 69.3, "AVG": None, "teacher": 90.0, "plain ViT": 27.6}
    assert rare.images == "1"
    assert bars.gains == []


def test_seeds_are_means(make_run):
    runs = [make_run("0"), make_run("1")]
    runs[1].recalls["CLS"][4] = 37.2
    runs[1].recalls["AVG"][4] = 50.0
    rare = class_bars("digits", runs).groups[-1][1][0]
    assert rare.recalls["CLS"] == pytest.approx(32.2)
    assert rare.recalls["AVG"] == 50.0  # the only seed that tested it


def test_without_recalls_there_are_no_bars(make_run):
    run = make_run()
    run.recalls.clear()
    assert class_bars("digits", [run]) is None


def many(make_run, classes):
    counts = list(range(1, classes + 1))  # the last class is the most frequent
    groups = {"head": range(classes - 10, classes), "mid": range(50, classes - 10), "tail": range(50)}
    names = [f"class {i}" for i in range(classes)]
    run = make_run(counts=counts, class_names=names, groups={name: list(ids) for name, ids in groups.items()})
    run.recalls.clear()
    run.recalls["CLS"] = [float(i % 50) for i in range(classes)]
    run.recalls["DIST"] = [40.0 if i else 90.0 for i in range(classes)]
    return run


def test_many_classes_share_rows_that_keep_to_their_group(make_run):
    bars = class_bars("digits", [many(make_run, 8142)])
    assert sum(len(rows) for _, rows in bars.groups) <= 2 * FEW_CLASSES
    assert [group for group, _ in bars.groups] == ["head", "mid", "tail"]
    (head,) = bars.groups[0][1]
    assert (head.label, head.images) == ("1 to 10", "8,133 to 8,142")
    assert head.recalls["CLS"] == pytest.approx(sum(i % 50 for i in range(8132, 8142)) / 10)


def test_the_greatest_leads_of_either_token_are_named(make_run):
    bars = class_bars("digits", [many(make_run, 200)])
    assert bars.gains[0] == ("class 0", 1, 90.0)
    assert bars.losses[0][2] == -9.0
    assert len(bars.gains) == len(bars.losses) == 8
