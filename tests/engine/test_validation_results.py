"""The validation split's accuracies of the weights that are tested, beside the test's."""

import csv
import json

import pytest

from deitlt.cli import main


@pytest.mark.parametrize("protocol", ["last", pytest.param("val", marks=pytest.mark.slow)])
def test_the_validation_split_is_measured_with_the_weights_that_are_tested(protocol, tiny_vit, tmp_path):
    run = tmp_path / "run"
    words = ["data.val_fraction=0.2", "data.max_count=40", "student.epochs=3", "evaluate_every=1", "report=false"]
    assert main(["train", *tiny_vit, *words, f"protocol={protocol}", f"paths.output_dir={run}"]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    rows = list(csv.DictReader((run / "student" / "metrics.csv").open()))
    curve = [float(row["val/cls/balanced"]) for row in rows if row["val/cls/balanced"]]
    assert len(curve) == 3  # and no fourth point, of the last measurement
    found = metrics["val"]["student"]["cls"]["balanced"]
    assert found == pytest.approx(curve[-1] if protocol == "last" else max(curve))
    assert set(metrics["val"]) == {"student", "student_ema"}
