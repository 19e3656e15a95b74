import json
import shutil
from pathlib import Path

import pytest

from deitlt.checkpoints import read_card
from deitlt.cli import main
from deitlt.engine import results


def metrics_of(folder):
    return json.loads((Path(folder) / "metrics.json").read_text())


def evaluate(*words):
    assert main(["evaluate", *words, "paths.output_dir=found"]) == 0
    return metrics_of("found")


@pytest.mark.parametrize(
    ("stage", "part", "words"),
    [
        ("student", "student", []),
        ("student", "student_ema", ["ema=true"]),
        ("teacher", "teacher", []),
        ("baseline", "baseline", []),
    ],
)
def test_a_stage_is_found_as_good_as_its_run_found_it(stage, part, words, trained):
    found = evaluate(f"checkpoint={trained}", f"stage={stage}", *words)
    kind = "teacher" if stage == "teacher" else "student"
    expected = metrics_of(trained)[part]
    assert set(found[kind]) == set(expected)
    for name, value in expected.items():
        assert found[kind][name] == pytest.approx(value, abs=1e-6)
    assert found["counts"] == metrics_of(trained)["counts"]
    assert found["groups"] == metrics_of(trained)["groups"]


def test_a_file_is_as_good_as_its_runs_folder(trained):
    checkpoint = trained / "student" / "last.ckpt"
    found = evaluate(f"checkpoint={checkpoint}", "batch_size=17")
    assert found["student"]["dist"]["all"] == pytest.approx(metrics_of(trained)["student"]["dist"]["all"])
    assert found["checkpoints"] == {"student": str(checkpoint)}


def test_it_writes_the_table_and_the_picture_and_prints(trained, tmp_path, capfd):
    evaluate(f"checkpoint={trained}")
    assert {"metrics.json", "per_class.csv", "per_class.png"} == {p.name for p in (tmp_path / "found").iterdir()}
    printed = capfd.readouterr().out
    assert "student DIST" in printed
    assert "top5" in printed


def test_images_that_were_moved_are_found_where_one_says(tiny_vit, image_folder, tmp_path):
    data = ["data=folder", f"data.root={image_folder}", "data.max_count=null", "data.imbalance_factor=null"]
    assert main(["train", *tiny_vit, *data, "paths.output_dir=run"]) == 0
    shutil.move(image_folder, tmp_path / "moved")
    assert main(["evaluate", "checkpoint=run", "paths.output_dir=found"]) == 2
    found = evaluate("checkpoint=run", f"data_root={tmp_path / 'moved'}")
    assert found["student"]["cls"] == pytest.approx(metrics_of("run")["student"]["cls"])


def test_fusions_are_fitted_on_the_images_that_training_held_out(tiny, held_out_teacher):
    assert main(["train", *tiny, held_out_teacher, "data.val_fraction=0.3", "paths.output_dir=run"]) == 0
    found, expected = evaluate("checkpoint=run")["student"], metrics_of("run")["student"]
    assert set(found) == set(expected) > {"cls", "dist", "avg", "mean_prob"}
    assert all(found[answer] == pytest.approx(expected[answer], abs=1e-6) for answer in expected)
    assert main(["evaluate", "checkpoint=run", "data=digits", "data.val_fraction=0.3", "paths.output_dir=other"]) == 0
    assert set(metrics_of("other")["student"]) == {"cls", "dist", "avg", "mean_prob"}  # nobody held these out


def test_data_with_other_classes_are_refused(complain, trained, image_folder):
    words = [f"checkpoint={trained}", "data=folder", f"data.root={image_folder}"]
    sentence = complain("evaluate", *words)
    assert "The data have the classes ant, bee, cat" in sentence
    assert "knows 0, 1, 2, ... (10)" in sentence


def test_an_unknown_choice_of_data_is_refused(complain, trained):
    assert "did you mean 'digits'" in complain("evaluate", f"checkpoint={trained}", "data=digit")


def test_a_teacher_has_no_average(complain, trained):
    sentence = complain("evaluate", f"checkpoint={trained}", "stage=teacher", "ema=true")
    assert "holds a teacher" in sentence
    assert "type ema=false" in sentence


def test_a_baseline_without_average_says_so(complain, trained):
    sentence = complain("evaluate", f"checkpoint={trained}", "stage=baseline", "ema=true")
    assert "holds no moving average; type ema=false" in sentence


def test_a_stage_that_there_is_not_is_refused(complain, trained):
    assert "stage=studnet is no stage; did you mean 'student'" in complain(
        "evaluate", f"checkpoint={trained}", "stage=studnet"
    )


def test_a_folder_without_a_checkpoint_is_refused(complain, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "The folder empty holds no checkpoint" in complain("evaluate", "checkpoint=empty")


def test_an_evaluation_overwrites_none(complain, trained):
    evaluate(f"checkpoint={trained}")
    assert "found holds a finished run" in complain("evaluate", f"checkpoint={trained}", output="found")


def test_the_card_alone_says_how_images_are_seen(trained):
    card = read_card(trained / "student" / "last.ckpt")
    assert (card.image_size, card.crop_share) == (16, 1.0)
    assert card.info.groups["tail"] == (7, 8, 9)


def test_a_picture_that_cannot_be_drawn_costs_no_numbers(trained, monkeypatch, capfd, caplog):
    def fails(*_, **__):
        raise OSError("no font")

    monkeypatch.setattr(results, "per_class_accuracy", fails)
    assert set(evaluate(f"checkpoint={trained}", "stage=teacher")) > {"teacher", "groups"}
    assert Path("found/per_class.csv").exists()
    assert f"more: {Path('found/metrics.json').absolute()}\n" in capfd.readouterr().out
    assert caplog.messages[-1] == "The picture per_class.png could not be drawn, and the run goes on without: no font"
