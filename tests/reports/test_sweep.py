import csv
import json

from rich.console import Console

from deitlt.reports.sweep import (
    SweepJob,
    best_job,
    read_job,
    read_jobs,
    sweep_csv,
    sweep_markdown,
    sweep_rows,
    sweep_table,
    swept_keys,
)

METRIC = "val/student/avg/balanced"


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
    header, rows = sweep_rows(jobs, "maximize")
    assert header == ["job", "seed", METRIC, "tail", "seconds", "state"]
    assert [row[0] for row in rows] == ["3", "2", "4", "1", "0"]
    assert rows[0] == ["3", "3", "60.0", "30.0", "12", "finished"]
    assert [row[0] for row in sweep_rows(jobs, "minimize")[1]][:2] == ["2", "3"]


def test_a_pruned_job_is_never_the_best():
    assert best_job([job(0, 99.0, "pruned"), job(1, 50.0)], "maximize").settings["seed"] == "1"
    assert best_job([job(0, 99.0, "pruned"), job(1, None, "failed")], "maximize") is None


def test_jobs_that_are_compared_by_different_numbers_each_say_by_which():
    header, rows = sweep_rows([job(0, 1.0), job(1, 2.0, metric="student/cls/balanced")], "maximize")
    assert header[2:4] == ["value", "of"]
    assert rows[0][3] == "student/cls/balanced"


def test_the_table_says_where_it_was_measured_and_how_many_jobs_came_to_what():
    jobs = [job(0, 1.0), job(1, None, "killed")]
    text = sweep_markdown(jobs, "maximize", "deitlt train seed=0")
    assert "on the validation split. Jobs: 1 finished, 1 killed." in text
    assert "    deitlt train seed=0" in text
    assert "on the TEST set" in sweep_markdown([job(0, 1.0, metric="student/avg/all")], "maximize", None)
    console = Console(record=True, width=120)
    console.print(sweep_table([job(0, 1.0, alpha="[a,b]"), job(1, 2.0)], "maximize"))
    assert "[a,b]" in console.export_text()


def test_the_csv_has_what_the_table_has():
    rows = list(csv.reader(sweep_csv([job(0, 1.0, alpha="a,b"), job(1, 2.0)], "maximize").splitlines()))
    assert rows[2][:3] == ["0", "0", "a,b"]


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
