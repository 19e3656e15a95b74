import csv
import json

import numpy as np
import pytest
from omegaconf import OmegaConf

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.reports.comparison import Hits, series_name
from deitlt.reports.runs import accuracy_rows

GROUPS = {"all", "balanced", "head", "mid", "tail", "top5"}
TOKENS = {"cls", "dist", "avg", "mean_prob"}


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def rows_of(run, stage):
    with (run / stage / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_runs_folder_holds_what_the_design_says(trained):
    written = {"config.yaml", "metrics.json", "per_class.csv", "per_class.png", "report.html", "test_hits.npz"}
    assert written <= {path.name for path in trained.iterdir()}
    for stage in ("teacher", "student", "baseline"):
        names = {path.name for path in (trained / stage).iterdir()}
        pictures = set() if stage == "baseline" else {"views.png"}
        assert names == {"metrics.csv", "last.ckpt", "result.json", "stage.yaml", "analysis", *pictures}


def test_the_metrics_hold_each_part_that_was_trained_and_no_other(trained):
    metrics = metrics_of(trained)
    assert set(metrics["teacher"]) == GROUPS
    assert set(metrics["student"]) == set(metrics["student_ema"]) == TOKENS
    assert all(set(metrics["student"][token]) == GROUPS for token in TOKENS)
    assert set(metrics["baseline"]) == {"cls"}
    assert "baseline_ema" not in metrics
    assert "teacher_ema" not in metrics


@pytest.mark.parametrize("run", ["trained", "trained_in_bf16"])
def test_the_share_of_each_answers_hits_is_its_accuracy_to_the_last_digit(run, request):
    folder = request.getfixturevalue(run)
    metrics, hits = metrics_of(folder), Hits.load(folder / "test_hits.npz")
    rows = {series_name(row.part, row.token): row.accuracy for row in accuracy_rows(metrics)}
    assert hits.right.keys() == rows.keys()
    for series, accuracy in rows.items():
        assert 100 * int(hits.right[series].sum()) / len(hits.targets) == accuracy["all"]
        for group, classes in metrics["groups"].items():
            recalls = [100 * hits.right[series][hits.targets == c].mean() for c in classes]
            assert np.mean(recalls) == pytest.approx(accuracy[group], rel=1e-12)


def test_the_metrics_say_what_the_run_was(trained):
    metrics = metrics_of(trained)
    assert (metrics["experiment"], metrics["method"], metrics["data"]) == ("digits", "deit_lt", "digits")
    assert (metrics["protocol"], metrics["seed"], metrics["imbalance_factor"]) == ("last", 0, 0.1)
    assert metrics["counts"] == [20, 15, 11, 9, 7, 5, 4, 3, 2, 2]
    assert metrics["groups"] == {"head": [0, 1, 2], "mid": [3, 4, 5, 6], "tail": [7, 8, 9]}
    assert metrics["class_names"] == [str(digit) for digit in range(10)]
    assert set(metrics["seconds"]) == {"teacher", "student", "baseline"}
    assert set(metrics["cost"]) == {"teacher", "student", "baseline"}
    epochs = OmegaConf.load(trained / "config.yaml").student.epochs
    assert metrics["cost"]["student"]["images_seen"] == epochs * sum(metrics["counts"])
    assert 0 < metrics["cost"]["baseline"]["parameters"] < metrics["cost"]["student"]["parameters"]
    assert metrics["checkpoints"]["student"] == str(trained / "student" / "last.ckpt")


def test_group_accuracies_are_means_of_the_classes_recalls(trained):
    metrics = metrics_of(trained)
    with (trained / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["train_images"]) for row in rows] == metrics["counts"]
    for group in ("head", "mid", "tail"):
        recalls = [float(row["DIST"]) for row in rows if row["group"] == group]
        assert sum(recalls) / len(recalls) == pytest.approx(metrics["student"]["dist"][group], abs=0.01)


def test_what_differs_from_the_recipe_is_stored(trained):
    differences = metrics_of(trained)["recipe_differences"]
    assert "student.epochs is 3, the recipe has 150" in differences
    assert "student.images_per_update is 16, the recipe has 64" in differences
    assert not any("num_workers" in line for line in differences)
    assert OmegaConf.load(trained / "config.yaml").recipe.differences == differences


def test_the_configuration_is_stored_resolved(trained):
    config = OmegaConf.to_container(OmegaConf.load(trained / "config.yaml"))
    assert config["student"]["schedule"]["epochs"] == 3
    assert "${" not in (trained / "config.yaml").read_text()


def test_each_epoch_has_one_row_in_the_table_of_metrics(trained):
    rows = rows_of(trained, "student")
    trained_epochs = [row["epoch"] for row in rows if row["train/loss"]]
    assert trained_epochs == ["0", "1", "2"]
    assert float(rows[-1]["test/dist/all"]) == pytest.approx(metrics_of(trained)["student"]["dist"]["all"], abs=1e-4)
    assert not any(name.startswith("val/") for name in rows[0])


def test_the_checkpoint_says_what_it_was_trained_on(trained):
    spec = read_checkpoint(trained / "student" / "last.ckpt")["deitlt"]
    assert spec["kind"] == "student"
    assert spec["counts"] == metrics_of(trained)["counts"]
    assert spec["model"]["width"] == 16


def test_a_given_teacher_is_not_trained_again_and_differences_are_printed(trained, tiny, tmp_path, capfd):
    run = tmp_path / "run"
    checkpoint = f"teacher.checkpoint={trained / 'teacher' / 'last.ckpt'}"
    assert main(["train", *tiny, checkpoint, f"paths.output_dir={run}"]) == 0
    assert not (run / "teacher").exists()
    metrics = metrics_of(run)
    assert "teacher" not in metrics
    assert set(metrics["student"]) == TOKENS
    printed = capfd.readouterr().out
    assert printed.count("not as in the recipe: student.epochs=3, the recipe has 150\n") == 1
    assert "student.epochs is 3" not in printed
    assert "student DIST" in printed
    assert str(run / "metrics.json") in printed


def test_a_plain_vit_is_trained_without_a_teacher(tiny_vit, tmp_path):
    assert main(["train", *tiny_vit, "paths.output_dir=run"]) == 0
    metrics = metrics_of(tmp_path / "run")
    assert metrics["method"] == "vit"
    assert set(metrics["student"]) == {"cls"}
    assert "teacher" not in metrics


def test_protocol_val_reports_the_epoch_that_is_best_on_the_validation_split(held_out_teacher, tiny, tmp_path, capfd):
    words = [
        "protocol=val",
        "data.val_fraction=0.2",
        "student.epochs=6",
        "student.drw.start_epoch=4",
        "evaluate_every=3",
    ]
    assert main(["train", *tiny, held_out_teacher, *words, "paths.output_dir=run"]) == 0
    run = tmp_path / "run"
    rows = rows_of(run, "student")
    scores = {row["epoch"]: float(row["val/avg/balanced"]) for row in rows if row.get("val/avg/balanced")}
    assert set(scores) == {"2", "4", "5"}  # every third epoch, all from re-weighting on, and the last
    assert not any(row.get("test/avg/balanced") for row in rows[:-1])  # the test set was not looked at before
    best = read_checkpoint(run / "student" / "best.ckpt")
    assert scores[str(best["epoch"])] == max(scores.values())
    metrics = metrics_of(run)
    assert metrics["val"]["student"]["avg"]["balanced"] == pytest.approx(max(scores.values()))
    assert metrics["protocol"] == "val"
    assert metrics["checkpoints"]["student"] == str(run / "student" / "best.ckpt")
    assert "best epoch on the validation split" in " ".join(capfd.readouterr().out.split())


def test_protocol_paper_chooses_on_the_test_set_and_says_so(teacher, tiny, tmp_path, capfd):
    words = ["protocol=paper", "evaluate_every=2", "student.optimizer.lr=0.01", "paths.output_dir=run"]
    assert main(["train", *tiny, teacher, *words]) == 0
    run = tmp_path / "run"
    scores = {row["epoch"]: float(row["test/avg/balanced"]) for row in rows_of(run, "student") if row["test/avg/all"]}
    assert {"0", "1", "2"} <= scores.keys()  # each epoch, as the authors have it
    assert metrics_of(run)["student"]["avg"]["balanced"] == pytest.approx(max(scores.values()), abs=1e-4)
    assert (run / "student" / "best.ckpt").exists()
    assert "TEST" in capfd.readouterr().out


def test_a_test_set_that_is_watched_is_logged_as_test_and_chooses_nothing(teacher, tiny, tmp_path):
    words = ["watch_test=true", "evaluate_every=2", "paths.output_dir=run"]
    assert main(["train", *tiny, teacher, *words]) == 0
    rows = rows_of(tmp_path / "run", "student")
    assert [row["epoch"] for row in rows if row["test/dist/tail"]] == ["1", "3"]
    assert not (tmp_path / "run" / "student" / "best.ckpt").exists()


def test_a_last_epoch_without_a_checkpoint_of_its_own_gets_one(teacher, tiny, tmp_path):
    assert main(["train", *tiny, teacher, "checkpoint_every=2", "paths.output_dir=run"]) == 0
    updates = int(rows_of(tmp_path / "run", "student")[-1]["step"])
    assert read_checkpoint(tmp_path / "run" / "student" / "last.ckpt")["global_step"] == updates


def test_networks_that_answer_differently_have_different_accuracies(trained):
    metrics = metrics_of(trained)
    answers = [metrics["teacher"], metrics["baseline"]["cls"], *metrics["student"].values()]
    answers += metrics["student_ema"].values()
    assert len({answer["all"] for answer in answers}) > 4
    assert all(0 < answer["all"] < 40 for answer in answers)


def test_broken_images_are_counted_and_left_out_when_asked(image_folder, tiny_vit, tmp_path, capfd):
    (image_folder / "train" / "ant" / "3.png").write_bytes(b"no image")
    (image_folder / "test" / "bee" / "1.png").write_bytes(b"")
    data = ["data=folder", f"data.root={image_folder}", "data.on_broken=skip", "data.max_count=null"]
    words = [*tiny_vit, *data, "data.imbalance_factor=null", "paths.output_dir=run"]
    assert main(["train", *words]) == 0
    named = f"{image_folder / 'test/bee/1.png'}, {image_folder / 'train/ant/3.png'}"
    assert f"2 broken image files are left out ({named})" in capfd.readouterr().out
    metrics = metrics_of(tmp_path / "run")
    assert metrics["counts"] == [11, 8, 4]
    assert metrics["class_names"] == ["ant", "bee", "cat"]


def test_a_finished_stage_is_not_trained_again(begun, capfd):
    weights = read_checkpoint(begun / "student" / "last.ckpt")["state_dict"]
    assert main(["train", f"resume={begun}"]) == 0
    printed = capfd.readouterr().out
    assert "teacher: epoch" not in printed
    assert "student: epoch" not in printed  # only its test was missing
    assert "baseline: epoch 3/3" in printed
    again = read_checkpoint(begun / "student" / "last.ckpt")["state_dict"]
    assert all((weights[name] == again[name]).all() for name in weights)
    assert set(metrics_of(begun)["seconds"]) == {"teacher", "student", "baseline"}


def test_a_users_own_stage_has_its_callbacks_and_lightnings_trainer_gets_the_keys_that_we_do_not_know(
    tiny_vit, tmp_path
):
    file = tmp_path / "own" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    kept = {
        "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
        **{"dirpath": "kept", "filename": "second", "every_n_epochs": 2, "save_on_train_epoch_end": True},
    }
    second = {"extends": "student", "epochs": 2, "callbacks": {"kept": kept}}
    file.write_text(f"# @package _global_\n{json.dumps({'defaults': ['digits'], 'second': second})}")
    words = ["--config-dir", str(tmp_path / "own"), *tiny_vit, "experiment=mine", "stages=[student,second]"]
    assert main(["train", *words, "+trainer.limit_train_batches=1", "paths.output_dir=run"]) == 0
    run = tmp_path / "run"
    assert set(metrics_of(run)["second"]) == {"cls"}
    updates = {stage: read_checkpoint(run / stage / "last.ckpt")["global_step"] for stage in ("student", "second")}
    assert updates == {"student": 1, "second": 2}
    assert read_checkpoint(tmp_path / "kept" / "second.ckpt")["global_step"] == 2


def test_the_validation_split_is_measured_with_the_weights_that_are_tested(tiny_vit, tmp_path):
    words = ["data.val_fraction=0.2", "data.max_count=40", "student.epochs=3", "evaluate_every=1"]
    assert main(["train", *tiny_vit, *words, "paths.output_dir=run"]) == 0
    held_out = metrics_of(tmp_path / "run")["val"]
    rows = rows_of(tmp_path / "run", "student")
    curve = [float(row["val/cls/balanced"]) for row in rows if row["val/cls/balanced"]]
    assert len(curve) == 3  # and no fourth point, of the last measurement
    assert held_out["student"]["cls"]["balanced"] == pytest.approx(curve[-1])
    assert set(held_out) == {"student", "student_ema"}
