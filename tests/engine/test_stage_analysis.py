"""The pictures that training leaves of its analysis: in the stage's folder and on the run's page."""

import base64
import json
import shutil

import pytest

from deitlt.analysis import runner
from deitlt.cli import main
from deitlt.reports import analysis_figures

OF_STUDENTS = {"attention_distance", "rank", "rollout"}
PICTURES = {"teacher": {"rank"}, "student": OF_STUDENTS | {"diversity", "agreement"}, "baseline": OF_STUDENTS}


def drawn(stage):
    return {path.stem for path in (stage / "analysis").glob("*.png")}


@pytest.mark.parametrize(("stage", "expected"), PICTURES.items())
def test_a_finished_stage_has_a_picture_of_each_part(stage, expected, trained):
    assert drawn(trained / stage) == expected


def test_the_runs_page_shows_the_rollouts(trained):
    page = (trained / "report.html").read_text()
    for stage in ("student", "baseline"):
        picture = (trained / stage / "analysis" / "rollout.png").read_bytes()
        assert base64.b64encode(picture).decode() in page
    assert "white is as much" in page


def test_each_picture_says_of_which_images_it_is_and_no_rollout_of_the_test_set(tiny_vit, monkeypatch):
    titles, splits = [], []
    rollouts, split_of = analysis_figures.attention_rollouts, runner.split_of

    def watched(examples, title):
        titles.append(title)
        return rollouts(examples, title)

    monkeypatch.setattr(analysis_figures, "attention_rollouts", watched)
    monkeypatch.setattr(runner, "split_of", lambda data, split: splits.append(split) or split_of(data, split))
    assert main(["train", *tiny_vit, "analysis.every=10", "analysis.images=20", "paths.output_dir=run"]) == 0
    assert titles == ["digits, student: attention rollout\n6 training images, after 1 epoch"]
    assert splits == ["train"]


def test_without_an_analysis_there_is_no_picture_of_one(tiny_vit, tmp_path):
    assert main(["train", *tiny_vit, "analysis.every=null", "paths.output_dir=run"]) == 0
    assert not (tmp_path / "run" / "student" / "analysis").exists()


def test_a_picture_that_fails_loses_neither_the_run_nor_the_others(tiny_vit, tmp_path, monkeypatch, caplog):
    def fails(*_, **__):
        raise OSError("no font")

    monkeypatch.setitem(analysis_figures.FIGURES, "rank", fails)
    monkeypatch.setattr(runner, "attention_rollout", fails)
    assert main(["train", *tiny_vit, "analysis.every=10", "analysis.images=20", "paths.output_dir=run"]) == 0
    assert drawn(tmp_path / "run" / "student") == {"attention_distance"}
    assert (tmp_path / "run" / "metrics.json").exists()
    said = [message.split(", and")[0] for message in caplog.messages if "no font" in message]
    assert said == ["The picture rank could not be drawn", "The picture rollout could not be drawn"]


def test_a_resumed_stage_draws_what_was_measured_before_it_stopped(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "copied")
    for file in ("metrics.json", "student/result.json", "student/analysis/rank.png"):
        (run / file).unlink()
    old = run / "student" / "analysis" / "sharpness.png"
    old.write_bytes(b"of an earlier analysis")
    assert main(["train", f"resume={run}"]) == 0
    assert drawn(run / "student") == PICTURES["student"]
    assert json.loads((run / "student" / "result.json").read_text())
