"""What a run tells W&B, read back from the files of runs that were recorded offline."""

import json
import shutil

import pytest
import wandb
from wandb_records import read_run

from deitlt.cli import main

TOKENS = ("cls", "dist", "avg", "mean_prob")


@pytest.fixture(scope="module")
def recorded(tiny, tmp_path_factory):
    """A run of two stages with its console output, recorded offline."""
    folder = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(name, str(folder / name))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.delenv("WANDB_API_KEY", raising=False)
        words = ["logger=wandb", "logger.wandb.tags=[long-tail]", "watch_test=true", "evaluate_every=1"]
        assert main(["train", *tiny, *words, f"paths.output_dir={folder / 'run'}"]) == 0
        wandb.teardown()
    return folder / "run"


@pytest.fixture(scope="module")
def stages(recorded, tmp_path_factory):
    """Stage -> its recorded run."""
    runs = {}
    for folder in sorted((recorded / "wandb").glob("offline-run-*")):
        alone = tmp_path_factory.mktemp("alone")
        shutil.copytree(folder, alone / folder.name)
        run = read_run(alone)
        runs[run.run.job_type] = run
    return runs


def test_each_stage_is_a_finished_run_of_one_group(recorded, stages):
    assert set(stages) == {"teacher", "student"}
    assert len(list((recorded / "wandb").glob("offline-run-*"))) == 2
    assert len({run.run.run_group for run in stages.values()}) == 1
    assert recorded.name in stages["student"].run.run_group
    assert [run.exit_code for run in stages.values()] == [0, 0]
    assert {run.run.project for run in stages.values()} == {"deitlt"}
    assert list(stages["student"].run.tags) == ["long-tail"]


def test_the_history_has_the_test_sets_accuracies_under_their_own_name(recorded, stages):
    metrics = json.loads((recorded / "metrics.json").read_text())
    history = stages["student"].history
    tails = [row["test/dist/tail"] for row in history if "test/dist/tail" in row]
    assert tails[-1] == pytest.approx(metrics["student"]["dist"]["tail"], abs=1e-4)
    assert len(tails) == 4  # after each of three epochs, and at the end
    assert any("test/ema/avg/all" in row for row in history)
    assert any("test/tail" in row for row in stages["teacher"].history)
    assert not any(name.startswith("val/") for row in history for name in row)


def test_the_history_has_losses_and_rates_of_each_epoch(stages):
    rows = [row for row in stages["student"].history if "train/loss" in row]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert all({"train/loss_cls", "train/loss_dist", "train/lr"} <= set(row) for row in rows)
    assert any("train/rho" in row for row in stages["teacher"].history)


def test_the_table_of_classes_is_there(recorded, stages):
    student = stages["student"]
    (row,) = (row for row in student.history if row.get("per_class/_type") == "table-file")
    # Name, images and group; four answers, of the raw and of the averaged weights.
    assert (row["per_class/nrows"], row["per_class/ncols"]) == (10, 11)
    (file,) = (recorded / "wandb").glob(f"offline-run-*/files/{row['per_class/path']}")
    table = json.loads(file.read_text())
    assert table["columns"] == ["class", "train images", "group", *TOKENS, *(f"ema {token}" for token in TOKENS)]
    assert [cells[1] for cells in table["data"]] == [20, 15, 11, 9, 7, 5, 4, 3, 2, 2]


def test_the_configuration_is_there_resolved(stages):
    config = stages["student"].config
    assert config["student"]["epochs"] == 3
    assert config["data"]["imbalance_factor"] == 0.1
    assert "${" not in json.dumps(config)


def test_the_run_ends_with_the_line_that_uploads_it(teacher, tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    words = ["logger=wandb", "student.epochs=1", "student.drw=null", "student.schedule.warmup_epochs=0"]
    few = [word for word in tiny if not word.startswith(("student.epochs", "student.drw", "student.schedule"))]
    assert main(["train", *few, teacher, *words, "paths.output_dir=run"]) == 0
    wandb.teardown()
    printed = capfd.readouterr().out.splitlines()
    (hint,) = (line for line in printed if line.startswith("wandb sync"))
    assert str(tmp_path / "run" / "wandb" / "offline-run-") in hint


@pytest.mark.slow
def test_a_resumed_stage_goes_on_with_its_run(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    run = tmp_path / "run"
    shutil.copytree(recorded, run, symlinks=True)
    for name in ("metrics.json", "student/result.json"):
        (run / name).unlink()
    before = {folder.name for folder in (run / "wandb").glob("offline-run-*")}
    assert main(["train", f"resume={run}"]) == 0
    wandb.teardown()
    (new,) = {folder.name for folder in (run / "wandb").glob("offline-run-*")} - before
    assert new.rpartition("-")[2] in {name.rpartition("-")[2] for name in before}


def test_a_run_without_wandb_leaves_nothing_of_it(trained):
    assert not list(trained.rglob("wandb*"))
