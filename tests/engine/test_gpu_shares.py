from contextlib import ExitStack

import pytest
from omegaconf import OmegaConf

from deitlt.engine.gpu_shares import VISIBLE, gpus_wanted, own_gpus, take, visible_gpus


def config(devices=1, accelerator="auto", **stages):
    trainer = {"devices": devices, "accelerator": accelerator}
    return OmegaConf.create({"trainer": trainer, "teacher": {"devices": None}, "student": {"devices": None}} | stages)


def test_jobs_side_by_side_get_gpus_of_their_own_and_give_them_back(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "0,1,GPU-x")
    with own_gpus(tmp_path, config()) as first, own_gpus(tmp_path, config()) as second:
        assert (first, second) == ({VISIBLE: "0"}, {VISIBLE: "1"})
        with own_gpus(tmp_path, config()) as third:
            assert third == {VISIBLE: "GPU-x"}
    with own_gpus(tmp_path, config(2)) as later:
        assert later == {VISIBLE: "0,1"}


def test_with_more_jobs_than_gpus_each_gpu_gets_a_second_one(tmp_path):
    with ExitStack() as locks:
        taken = [take(tmp_path, ["0", "1", "2"], 1, locks) for _ in range(5)]
        assert taken == [["0"], ["1"], ["2"], ["0"], ["1"]]
        assert take(tmp_path, ["0", "1", "2"], 2, locks) == ["0", "1"]  # the second layer has one left: not enough


@pytest.mark.parametrize(
    ("job", "number"),
    [
        (config(2), 2),
        (config(1, student={"devices": 4}), 4),
        (config("auto"), None),
        (config(2, "cpu"), None),
        (config(None), None),
        (config(0), None),
        (config(2, student={"devices": -1}), None),
    ],
)
def test_a_job_wants_what_its_largest_stage_uses(job, number):
    assert gpus_wanted(job) == number


def test_a_job_that_uses_all_or_no_gpus_is_shown_what_there_is(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "0,1")
    for job in (config(2), config("auto"), config(1, "cpu"), config(-1), config(0)):
        with own_gpus(tmp_path, job) as variables:
            assert variables == {}
    monkeypatch.setenv(VISIBLE, "")
    assert visible_gpus() == []
    assert list(tmp_path.iterdir()) == []
