"""The page that `deitlt train` ends with."""

import json
import shutil

import yaml
from rich.console import Console

from deitlt.cli import main
from deitlt.engine.run_folder import RunFolder, write_run_report


def said(run):
    """What is printed for a run."""
    console = Console(record=True, width=500)
    write_run_report(RunFolder(run), console)
    return console.export_text().strip()


def test_a_run_ends_with_its_page(trained):
    page = (trained / "report.html").read_text()
    assert "digits, imbalance 10: one run" in page
    for words in ("as its teacher labels it", "as the teacher sees it", "Training curves", "Plain ViT"):
        assert words in page
    assert "as the plain ViT sees it" not in page  # it learns from what the student does
    assert page.count("data:image/") == 2 + 2  # views, and what the student and the plain ViT attend to
    assert len(page.encode()) < 3_000_000


def test_the_page_says_what_was_typed(trained):
    words = yaml.safe_load((trained / "config.yaml").read_text())["recipe"]["overrides"]
    assert "experiment=digits" in words
    assert f"deitlt train {words[0]}" in (trained / "report.html").read_text()


def test_versions_are_recorded(trained):
    versions = json.loads((trained / "metrics.json").read_text())["versions"]
    assert {"deitlt", "torch", "lightning", "timm"} == set(versions)
    assert f"torch {versions['torch']}" in (trained / "report.html").read_text()


def test_what_goes_wrong_with_the_page_loses_no_run(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "report.html").unlink()
    (run / "config.yaml").write_text("{[")
    line = said(run)
    assert line.startswith(f"no report was written ({run}/config.yaml is not readable YAML")
    assert f"type deitlt report {run} --html={run}/report.html" in line
    assert not (run / "report.html").exists()


def test_the_page_can_be_made_again(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "report.html").unlink()
    assert said(run) == f"report: {run}/report.html"
    assert (run / "report.html").exists()


def test_no_page_is_written_where_none_is_wanted(tiny_vit, tmp_path, capfd):
    assert main(["train", *tiny_vit, f"paths.output_dir={tmp_path / 'run'}"]) == 0
    assert not (tmp_path / "run" / "report.html").exists()
    assert "report: " not in capfd.readouterr().out
