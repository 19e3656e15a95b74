"""The main job in its smallest form: three stages of digits, one command, as a user types it."""

import json

from deitlt.cli import main


def test_the_demo_in_two_epochs_ends_with_its_table_and_its_files(tmp_path, capsys):
    run = tmp_path / "run"
    words = [
        *("train", "experiment=demo", f"paths.output_dir={run}", "data.max_count=20", "data.num_workers=0"),
        *("teacher.epochs=2", "teacher.drw.start_epoch=1", "student.epochs=2", "student.drw.start_epoch=1"),
        *("teacher.images_per_update=16", "student.images_per_update=16", "trainer=cpu"),
    ]
    assert main(words) == 0
    assert "student DIST" in capsys.readouterr().out
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"teacher", "student", "student_ema", "baseline"} <= metrics.keys()
    assert set(metrics["student"]) >= {"cls", "dist", "avg"}
    written = {path.name for path in run.iterdir()}
    assert {"config.yaml", "metrics.json", "per_class.csv", "report.html", "teacher", "student", "baseline"} <= written
    assert all((run / stage / "last.ckpt").exists() for stage in ("teacher", "student", "baseline"))
    assert main(["evaluate", f"checkpoint={run}"]) == 0
