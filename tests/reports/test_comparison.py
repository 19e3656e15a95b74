import json
import re
from dataclasses import replace

import numpy as np
import pytest

from deitlt.cli import main
from deitlt.errors import ConfigError
from deitlt.reports.comparison import Hits, compare, paired_bootstrap
from deitlt.reports.page import report_html
from deitlt.reports.runs import read_runs
from deitlt.reports.tables import paired_table, summary_markdown


def two_answers(images, seed=0, better=0.1):
    """Two that are right on the same images more often than chance has it, [N] each."""
    stream = np.random.default_rng(seed)
    ease = stream.random(images)
    return ease < 0.6 + better + 0.2 * stream.standard_normal(images), ease < 0.6


def brute_force(first, second, classes, draws=4000):
    """The same interval from images that are really drawn, class by class, the same for both."""
    stream = np.random.default_rng(7)
    means = np.zeros(draws)
    for c in np.unique(classes):
        members = np.flatnonzero(classes == c)
        drawn = members[stream.integers(len(members), size=(draws, len(members)))]
        means += first[drawn].mean(axis=1) - second[drawn].mean(axis=1)
    return 100 * np.quantile(means / len(np.unique(classes)), [0.025, 0.975])


@pytest.mark.parametrize("is_grouped", [False, True])
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_is_that_of_images_that_are_really_drawn(is_grouped, seeds):
    pairs = [two_answers(240, seed) for seed in range(seeds)]
    first, second = (np.mean(side, axis=0) for side in zip(*pairs, strict=True))
    classes = np.repeat([3, 5, 9], [20, 60, 160]) if is_grouped else np.zeros(240)
    found = paired_bootstrap(first, second, classes if is_grouped else None, resamples=20_000)
    drawn = brute_force(first, second, classes)
    assert [found.low, found.high] == pytest.approx(list(drawn), abs=0.42)  # an image of 240
    means = [100 * (first[classes == c].mean() - second[classes == c].mean()) for c in np.unique(classes)]
    assert found.difference == pytest.approx(np.mean(means))


def test_the_interval_of_many_images_is_the_normal_one():
    first, second = two_answers(10_000)
    differences = first.astype(float) - second
    error = 100 * differences.std() / 100
    found = paired_bootstrap(first, second)
    expected = [found.difference - 1.96 * error, found.difference + 1.96 * error]
    assert [found.low, found.high] == pytest.approx(expected, abs=0.15 * error)
    apart = np.hypot(first.std(), second.std())  # unpaired, the same images would count twice
    assert found.high - found.low < 0.8 * 2 * 1.96 * apart


def test_the_interval_of_classes_of_a_few_images_is_the_normal_one():
    """As in iNaturalist's test set: three images of each of thousands of classes."""
    first, second = two_answers(9_000)
    classes = np.arange(9_000) // 3
    within = (first.astype(float) - second).reshape(-1, 3).var(axis=1) / 3  # of a class's mean
    error = 100 * np.sqrt(within.sum()) / len(within)
    found = paired_bootstrap(first, second, classes)
    assert [found.low, found.high] == pytest.approx(
        [found.difference - 1.96 * error, found.difference + 1.96 * error], abs=0.15 * error
    )


def test_nineteen_of_twenty_intervals_hold_what_all_images_would_say():
    stream, held = np.random.default_rng(0), 0
    for _ in range(400):
        differences = stream.choice([-1.0, 0.0, 1.0], size=300, p=[0.1, 0.7, 0.2])
        found = paired_bootstrap(differences, np.zeros(300), resamples=400)
        held += found.low <= 10 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_the_same_answers_are_not_told_apart_and_draws_repeat():
    first, second = two_answers(100)
    assert paired_bootstrap(first, first) == (0.0, 0.0, 0.0)
    assert paired_bootstrap(first, first).holds_zero
    assert paired_bootstrap(first, second) == paired_bootstrap(first, second)
    assert not paired_bootstrap(np.ones(50), np.zeros(50)).holds_zero


SHARES = {"teacher": 0.8, "student/cls": 0.6, "student/dist": 0.9, "student/avg": 0.82, "student/fused": 0.95}


@pytest.fixture
def write(tmp_path, metrics):
    """Writes a finished run that is right on the first so many of each class's 100 images, or from another one on."""

    def make(name, shares=SHARES, images="aa", shift=0, **changes):
        targets = np.repeat(np.arange(5), 100)
        right = {series: np.roll(np.arange(500) % 100 < 100 * share, shift) for series, share in shares.items()}
        found = {"experiment": name.rstrip("0123456789"), "recipe_differences": [], **changes}
        parts = {"teacher": None, "student": {}, "student_ema": None, "baseline": None}
        for series, hits in right.items():
            part, _, token = series.partition("/")
            recalls = 100 * hits.reshape(5, 100).mean(axis=1)
            groups = {"head": recalls[:2].mean(), "mid": recalls[2:4].mean(), "tail": recalls[4]}
            accuracy = {"all": 100 * hits.mean(), **groups}
            parts[part] = accuracy if not token else {**(parts[part] or {}), token: accuracy}
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({**metrics, **parts, **found}))
        with (folder / "test_hits.npz").open("wb") as file:
            Hits(images, targets, right).save(file)
        return folder

    return make


def lines(table):
    return {row.name: [str(cell) for cell in row.cells] for row in table.rows}


def test_what_was_written_is_read(write):
    folder = write("lt")
    found = Hits.load(folder / "test_hits.npz")
    assert (found.images, found.targets.tolist()) == ("aa", [c for c in range(5) for _ in range(100)])
    assert {series: int(right.sum()) for series, right in found.right.items()} == {
        series: round(500 * share) for series, share in SHARES.items()
    }
    assert (folder / "test_hits.npz").stat().st_size < 3000
    assert Hits.load(folder / "none.npz") is None


def test_each_answer_meets_its_teacher_and_the_main_ones_every_other_experiment(write, tmp_path):
    write("lt")
    write("vit", {"student/cls": 0.5})
    found = lines(paired_table(read_runs([tmp_path])))
    assert list(found) == [
        "student AVG, against its teacher",
        "student AVG, against vit, student CLS",
        "student DIST, against its teacher",
        "student fused, one weight, against its teacher",
        "student fused, one weight, against vit, student CLS",
    ]
    assert found["student AVG, against vit, student CLS"][0].startswith("+32.0 [+2")
    assert all(cell.startswith("+10.0 [") for cell in found["student DIST, against its teacher"])


def test_a_difference_that_may_be_none_is_said_to_be_none(write, tmp_path):
    write("lt", {"teacher": 0.8, "student/cls": 0.6, "student/avg": 0.8}, shift=0)
    write("other", {"student/cls": 0.8}, shift=37)  # as good, on other images
    found = lines(paired_table(read_runs([tmp_path])))
    assert found["student AVG, against its teacher"] == ["none [+0.0, +0.0]"] * 4
    assert re.fullmatch(r"none \[-\d\.\d, \+\d\.\d\]", found["student AVG, against other, student CLS"][0])


def test_seeds_are_averaged_image_by_image_and_counted(write, tmp_path):
    write("lt0", seed=0)
    write("lt1", {**SHARES, "student/avg": 0.7}, seed=1)
    table = paired_table(read_runs([tmp_path]))
    assert lines(table)["student AVG, against its teacher"][0].startswith("-4.0 [")
    assert "averaged image by image" in table.note
    assert "not what other seeds would" in table.note
    assert "Hits were kept" not in table.note
    (write("lt2", seed=2) / "test_hits.npz").unlink()
    assert "Hits were kept by 2 of 3 runs." in paired_table(read_runs([tmp_path])).note


def test_a_teacher_of_its_own_run_meets_all_of_a_students_answers(write, tmp_path):
    write("lt", {series: share for series, share in SHARES.items() if series != "teacher"})
    write("teacher", {"teacher": 0.8})
    found = lines(paired_table(read_runs([tmp_path])))
    assert list(found) == [
        f"student {token}, against teacher, teacher" for token in ("AVG", "DIST", "fused, one weight")
    ]


def test_other_test_images_are_named_and_not_compared(write, tmp_path, metrics):
    write("lt", seed=0)
    write("moved", {"student/cls": 0.5}, images="bb", seed=3)
    table = paired_table(read_runs([tmp_path]))
    assert not any("moved" in name for name in lines(table))
    assert table.note.endswith("Not compared, for their test images are others, or in another order: moved seed 3.")
    alone = [write("vit", {"student/cls": 0.5}), write("strange", {"student/cls": 0.4}, images="cc", seed=None)]
    table = paired_table(read_runs(alone))
    assert (table.rows, table.note) == (
        [],
        "Not compared, for their test images are others, or in another order: strange.",
    )
    assert summary_markdown(read_runs(alone)).endswith(f"\n\n{table.note}\n")
    assert table.note in report_html(read_runs(alone))


def test_the_same_images_in_another_order_are_other_images(write, tmp_path):
    folder = write("lt")
    hits = Hits.load(folder / "test_hits.npz")
    assert hits.same_images(replace(hits, right={}))
    assert not hits.same_images(replace(hits, targets=hits.targets[::-1]))


def test_runs_of_before_have_no_rows_and_nothing_is_said(write, tmp_path):
    for name in ("lt", "vit"):
        (write(name) / "test_hits.npz").unlink()
    runs = read_runs([tmp_path])
    assert compare(runs) is None
    assert "Paired" not in report_html(runs)
    assert summary_markdown(runs).endswith("Protocol: last epoch.\n")
    assert compare(read_runs([write("alone", {"student/cls": 0.5})])) is None


def test_the_page_and_the_file_have_the_table(write, tmp_path, capfd):
    write("lt")
    page, output = tmp_path / "page.html", tmp_path / "table.md"
    assert main(["report", str(tmp_path / "runs"), f"--html={page}", f"--output={output}"]) == 0
    printed = capfd.readouterr().out
    assert output.read_text() == printed
    assert "\nPaired differences of lt:\n\n|  | all | head | mid | tail |\n| --- | ---: |" in printed
    assert "| student DIST, against its teacher | +10.0 [+" in printed
    assert "<h4>Paired differences of lt</h4>" in page.read_text()
    shown = r'<td>\+10\.0 <small class="interval">\[\+\d+\.\d, \+\d+\.\d\]</small></td>'
    assert re.search(shown, page.read_text())


def test_a_file_that_no_run_wrote_or_of_another_run_is_a_sentence(write, tmp_path, capfd):
    folder = write("lt")
    file = folder / "test_hits.npz"
    whole = file.read_bytes()
    spoilt = bytearray(whole)
    spoilt[whole.index(b"student/avg.npy") + 60] ^= 255  # in its packed bits
    for content in (b"no archive", whole[:200], bytes(spoilt)):
        file.write_bytes(content)
        assert main(["report", str(folder)]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"deitlt: {file} is not what a run writes (")
        assert line.endswith("delete it, and its run is not compared, or test the run anew with deitlt evaluate.")
    for arrays in ({"images": np.array("aa")}, {"images": np.array("aa"), "targets": np.zeros(9)}):
        np.savez(file, **arrays)
        with pytest.raises(ConfigError, match="is not what a run writes"):
            Hits.load(file)
    np.savez(file, images=np.array("aa"), targets=np.zeros(9, np.int32), teacher=np.zeros(1, np.uint8))
    with pytest.raises(ConfigError, match="teacher is not of its images"):
        Hits.load(file)
    np.savez(file, images=np.array("aa"), targets=np.array([print], dtype=object))
    with pytest.raises(ConfigError, match="is not what a run writes"):
        Hits.load(file)
    file.write_bytes((write("vit", {"teacher": 0.5}) / "test_hits.npz").read_bytes())
    assert main(["report", str(folder)]) == 2
    assert capfd.readouterr().err == (
        f"deitlt: {file} is not of the metrics.json beside it: teacher is right on 50.00 % of the images there and on "
        "80.00 % here; take both of one run, or delete the first.\n"
    )
