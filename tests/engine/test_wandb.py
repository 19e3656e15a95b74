"""What a run tells W&B, read back from the files of runs that were recorded offline."""

import contextlib
import io
import json
import shutil

import pytest
import torch
import wandb
from omegaconf import OmegaConf
from wandb_records import read_run, records

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.engine import run_folder
from deitlt.engine import stage as engine_stage
from deitlt.errors import CheckpointError, Preempted
from deitlt.tracking import failures
from deitlt.tracking import stage as tracking_stage

TOKENS = ("cls", "dist", "avg", "mean_prob")


@pytest.fixture(scope="module")
def recorded(tiny, tmp_path_factory):
    """A run of two stages, recorded offline, which ends with the line that uploads it."""
    folder = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(name, str(folder / name))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.delenv("WANDB_API_KEY", raising=False)
        words = ["logger=wandb", "logger.wandb.tags=[long-tail]", "watch_test=true", "evaluate_every=1"]
        words += ["analysis.every=10", "analysis.images=20"]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main(["train", *tiny, *words, f"paths.output_dir={folder / 'run'}"]) == 0
        wandb.teardown()
    (hint,) = (line for line in printed.getvalue().splitlines() if line.startswith("wandb sync"))
    assert str(folder / "run" / "wandb" / "offline-run-") in hint
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


def test_the_history_has_losses_rates_and_the_test_sets_accuracies_under_their_own_name(recorded, stages):
    metrics = json.loads((recorded / "metrics.json").read_text())
    history = stages["student"].history
    tails = [row["test/dist/tail"] for row in history if "test/dist/tail" in row]
    assert tails[-1] == pytest.approx(metrics["student"]["dist"]["tail"], abs=1e-4)
    assert len(tails) == 4  # after each of three epochs, and at the end
    assert any("test/ema/avg/all" in row for row in history)
    assert any("test/tail" in row for row in stages["teacher"].history)
    assert not any(name.startswith("val/") for row in history for name in row)
    rows = [row for row in history if "train/loss" in row]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert all({"train/loss_cls", "train/loss_dist", "train/lr"} <= set(row) for row in rows)
    assert all(row["speed/images_per_second"] > 0 and row["speed/epoch_seconds"] > 0 for row in rows)
    assert any("train/rho" in row for row in stages["teacher"].history)


def test_the_summary_has_the_best_the_last_and_what_is_reported(recorded, stages):
    metrics, summary = json.loads((recorded / "metrics.json").read_text()), stages["student"].summary
    assert summary["final/dist/tail"] == pytest.approx(metrics["student"]["dist"]["tail"])
    assert summary["final/ema/avg/all"] == pytest.approx(metrics["student_ema"]["avg"]["all"])
    assert stages["teacher"].summary["final/tail"] == pytest.approx(metrics["teacher"]["tail"])
    assert set(summary["test/dist/tail"]) == {"max", "last"}
    assert set(summary["train/loss"]) == {"min", "last"}


def test_pictures_of_views_and_confusions_are_there(recorded, stages):
    names = {
        name.removesuffix("/_type") for row in stages["student"].history for name in row if name.endswith("/_type")
    }
    wanted = {"pictures/views", "pictures/per_class", *(f"pictures/confusion_{token}" for token in TOKENS[:3])}
    assert wanted | {"per_class", "confusions"} <= names
    assert stages["student"].history[0]["pictures/views/format"] == "png"  # before training
    assert any(row.get("pictures/confusion/_type") == "image-file" for row in stages["teacher"].history)
    for row in stages["student"].history:
        if "pictures/views/path" in row:
            assert len(list((recorded / "wandb").glob(f"offline-run-*/files/{row['pictures/views/path']}"))) == 1


def test_the_pictures_of_the_analysis_are_those_in_the_stages_folder(recorded, stages):
    logged = {name: value for row in stages["student"].history for name, value in row.items()}
    pictures = list((recorded / "student" / "analysis").glob("*.png"))
    assert {"attention_distance", "rank", "rollout"} <= {picture.stem for picture in pictures}
    for picture in pictures:
        (file,) = (recorded / "wandb").glob(f"offline-run-*/files/{logged[f'pictures/analysis/{picture.stem}/path']}")
        assert file.read_bytes() == picture.read_bytes()


def table_of(recorded, stages, name):
    (row,) = (row for row in stages["student"].history if row.get(f"{name}/_type") == "table-file")
    (file,) = (recorded / "wandb").glob(f"offline-run-*/files/{row[f'{name}/path']}")
    return json.loads(file.read_text())


def test_classes_and_what_they_are_taken_for_are_tables(recorded, stages):
    classes = table_of(recorded, stages, "per_class")
    assert classes["columns"] == ["class", "train images", "group", *TOKENS, *(f"ema {token}" for token in TOKENS)]
    assert [cells[1] for cells in classes["data"]] == [20, 15, 11, 9, 7, 5, 4, 3, 2, 2]
    confusions = table_of(recorded, stages, "confusions")
    assert confusions["columns"] == ["token", "class", "taken for", "images"]
    wrong = {token: sum(cells[3] for cells in confusions["data"] if cells[0] == token) for token in TOKENS[:3]}
    accuracy = json.loads((recorded / "metrics.json").read_text())["student"]
    assert wrong == {token: round(500 * (1 - accuracy[token]["all"] / 100)) for token in TOKENS[:3]}


def test_checkpoints_are_artifacts_and_the_student_names_its_teacher(recorded, stages):
    artifacts = {}
    for path in (recorded / "wandb").glob("offline-run-*/*.wandb"):
        kept = [record for record in records(path) if record.WhichOneof("record_type") in ("artifact", "run")]
        job = next(record.run.job_type for record in kept if record.WhichOneof("record_type") == "run")
        artifacts[job] = [record.artifact for record in kept if record.artifact.type == "model"]
    (made,), (student,) = artifacts["teacher"], artifacts["student"]
    assert (made.name, student.name) == ("digits-teacher", "digits-student")
    run = f"{recorded.parent.name}-{recorded.name}"
    assert set(made.aliases) == set(student.aliases) == {"latest", run, "last"}
    record = json.loads((recorded / "teacher" / "artifact.json").read_text())
    assert record == {"name": "digits-teacher", "alias": run, "digest": made.digest, "file": "last.ckpt"}
    config, file = stages["student"].config, recorded / "teacher" / "last.ckpt"
    known = {"artifact": f"digits-teacher:{run}", "digest": made.digest, "file": str(file)}
    assert config["artifacts"]["teacher"] == known
    assert stages["student"].summary["artifacts/teacher"] == known["artifact"]
    assert config["data"]["imbalance_factor"] == 0.1
    assert "${" not in json.dumps(config)


def test_neither_wandb_nor_an_analysis_changes_training(recorded, tiny, tmp_path):
    words = ["watch_test=true", "evaluate_every=1", "stages=[teacher]"]
    assert main(["train", *tiny, *words, "paths.output_dir=plain"]) == 0
    one, other = (read_checkpoint(run / "teacher" / "last.ckpt") for run in (recorded, tmp_path / "plain"))
    assert one["state_dict"].keys() == other["state_dict"].keys()
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())


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


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """W&B without a network, in the test's folder."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    yield
    wandb.teardown()


def alone(folder, tmp_path):
    """An offline run's folder, read."""
    place = tmp_path / "alone" / folder.name
    shutil.copytree(folder, place)
    return read_run(place.parent)


@pytest.mark.slow
def test_what_cannot_be_drawn_or_recorded_loses_no_run(offline, tiny_vit, tmp_path, monkeypatch, caplog, capfd):
    written = []

    def fails(*_, **__):
        written.append((tmp_path / "run" / "student" / "result.json").exists())
        raise OSError("no font")

    for place, name in (
        (engine_stage, "confusion_picture"),
        (tracking_stage, "confusion_rows"),
        (tracking_stage, "log_checkpoint"),
        (run_folder, "per_class_accuracy"),
    ):
        monkeypatch.setattr(place, name, fails)
    monkeypatch.setattr(failures, "_warned", set())
    assert main(["train", *tiny_vit, "logger=wandb", "analysis.every=null", "paths.output_dir=run"]) == 0
    assert written == [True] * 4
    assert (tmp_path / "run" / "student" / "per_class.png").exists()
    assert set(json.loads((tmp_path / "run" / "metrics.json").read_text())["student"]) == {"cls"}
    assert (tmp_path / "run" / "per_class.csv").exists()
    assert f"more: {tmp_path / 'run' / 'metrics.json'}\n" in capfd.readouterr().out
    said = [message for message in caplog.messages if "no font" in message]
    assert [message.split(", and")[0] for message in said] == [
        "The picture confusion_cls could not be drawn",
        "W&B failed to record the tables",
        "W&B failed to record the checkpoints",
        "The picture per_class.png could not be drawn",
    ]


@pytest.mark.slow
def test_the_jobs_of_a_sweep_are_finished_runs_of_one_group(offline, tiny_vit, tmp_path):
    words = ["logger=wandb", "student.optimizer.lr=1e-3,1e30", "paths.sweep_dir=sweeps/mine"]
    main(["train", "-m", *tiny_vit, *words])
    wandb.teardown()
    runs = []
    for job in ("0", "1"):
        (folder,) = (tmp_path / "sweeps" / "mine" / job / "wandb").glob("offline-run-*")
        runs.append(alone(folder, tmp_path / job))
    assert {run.run.run_group for run in runs} == {"sweeps-mine"}
    assert [run.run.job_type for run in runs] == ["student", "student"]
    assert [run.run.display_name for run in runs] == ["sweeps-mine-0-student", "sweeps-mine-1-student"]
    assert [run.exit_code for run in runs] == [0, 1]


def test_an_artifact_that_cannot_be_had_is_one_sentence(complain, tiny, monkeypatch):
    monkeypatch.setattr("deitlt.tracking.artifacts.why_not_online", lambda: "https://x cannot be reached")
    said = complain("train", *tiny, "teacher.checkpoint=wandb:me/deitlt/digits-teacher:latest")
    assert said.endswith("cannot be fetched: https://x cannot be reached; type the path of a .ckpt file.")
    said = complain("train", *tiny, "student.init=wandb:nothing")
    assert "wandb:nothing names no artifact; type wandb:ENTITY/PROJECT/NAME:ALIAS" in said


@pytest.mark.parametrize("source", ["wandb:me/deitlt/digits-teacher:latest", "hf://me/digits-teacher@latest"])
def test_the_same_words_go_on_where_an_alias_has_moved_or_nothing_can_be_fetched(
    source, trained, tiny, tmp_path, monkeypatch, capfd
):
    name, run = f"teacher.checkpoint={source}", tmp_path / "run"
    words = ["train", *tiny, "resume=auto", f"paths.output_dir={run}"]
    with monkeypatch.context() as patch:
        patch.setattr("deitlt.engine.run.fetch", lambda name: trained / "teacher" / "last.ckpt")
        patch.setattr("deitlt.engine.run.run_stage", _stopped)
        assert main([*words, name]) == 75
        begun = (run / "config.yaml").read_text()
        assert OmegaConf.create(begun).teacher.checkpoint == str(trained / "teacher" / "last.ckpt")
        patch.setattr("deitlt.engine.run.fetch", _not_reached)
        assert main([*words, name]) == 75
        assert (run / "config.yaml").read_text() == begun
        capfd.readouterr()
        assert main([*words, name.replace("latest", "v3")]) == 2
    assert f"{name.replace('latest', 'v3')} cannot go on with it" in capfd.readouterr().err


def _stopped(*_):
    raise Preempted()


def _not_reached(name):
    raise CheckpointError(f"{name} cannot be fetched.")
