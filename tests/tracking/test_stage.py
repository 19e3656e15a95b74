from pathlib import Path

import pytest

from deitlt.tracking import AppendingCSVLogger, StageNames, final_names, per_class_rows, stage_loggers


def test_final_accuracies_are_named_by_network_and_token():
    networks = {"raw": {"cls": {"all": 80.0}, "dist": {"tail": 60.5}}, "ema": {"cls": {"all": 81.0}}}
    assert final_names(networks, names_tokens=True) == {
        "final/cls/all": 80.0,
        "final/dist/tail": 60.5,
        "final/ema/cls/all": 81.0,
    }
    assert final_names({"raw": {"cls": {"all": 80.0}}}, names_tokens=False) == {"final/all": 80.0}


@pytest.mark.parametrize(
    ("folder", "group", "run"),
    [("outputs/day/12-00", "day-12-00", "day-12-00"), ("sweeps/mine/0", "sweeps-mine", "sweeps-mine-0")],
)
def test_a_sweeps_job_has_the_sweeps_name_before_its_own(folder, group, run):
    assert StageNames("student", Path(folder) / "student", group).run == run


def test_without_wandb_a_stage_has_its_csv_file_and_a_resumed_one_its_earlier_rows(tmp_path):
    names = StageNames("student", tmp_path / "run" / "student", "run")
    (csv,) = stage_loggers(names, {}, None, None)
    for step in range(4):
        csv.log_metrics({"epoch": step, "loss": step}, step=step)
    (again,) = stage_loggers(names, {}, None, 2)
    assert isinstance(again, AppendingCSVLogger)
    assert again.path.read_text() == "epoch,step,loss\n0,0,0\n1,1,1\n2,2,2\n"


def test_a_class_is_a_row_with_its_group(info):
    rows = per_class_rows({"cls": [90.0, 80.0, 70.0, None]}, info)
    assert rows[0] == {"class": "ant", "train images": 40, "group": "head", "cls": 90.0}
    assert rows[3] == {"class": "dog", "train images": 2, "group": "tail", "cls": None}
