"""A stage's ranks: which one each of them is, and what is heard of their warnings."""

import logging
from types import SimpleNamespace

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only as of_fabric
from lightning.pytorch.utilities import rank_zero_only

from deitlt.engine import launching
from deitlt.engine.meeting import Outcome
from deitlt.engine.ranks import conclude, mark_warnings
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.stage_logging import stage_loggers
from deitlt.errors import Preempted, TrainingError
from deitlt.tracking import AppendingCSVLogger
from deitlt.tracking.stage import WANDB_ID


@pytest.fixture
def stage(trained, tmp_path):
    """The trained run's student, on two hosts of two devices each."""
    known = StageConfig.load(trained / "student" / "stage.yaml")
    known.trainer.update(devices=2, num_nodes=2)
    known.logger["wandb"] = None
    file = tmp_path / "stage.yaml"
    known.save(file)
    return file


@pytest.mark.parametrize("host", [0, 1])
@pytest.mark.parametrize("device", [0, 1])
def test_a_rank_knows_which_one_it_is_before_its_trainer_does(host, device, stage, monkeypatch):
    seen = []
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    monkeypatch.setattr(launching, "end_with", lambda parent: None)
    monkeypatch.setattr(launching, "mark_warnings", lambda: seen.append("marked"))
    monkeypatch.setattr(launching, "run_stage", lambda *_: seen.append((rank_zero_only.rank, of_fabric.rank)))
    monkeypatch.setenv("NODE_RANK", str(host))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if device:
        monkeypatch.setenv("LOCAL_RANK", str(device))  # the first one is not told
    assert launching.main([str(stage), "1"]) == 0
    assert seen == ["marked", (2 * host + device, 2 * host + device)]


def test_another_hosts_first_rank_begins_no_run_and_cuts_no_file(stage, trained, tmp_path, monkeypatch):
    config = StageConfig.load(stage)
    options = {"project": "p", "entity": None, "tags": [], "mode": "offline", "artifacts": False}
    config.logger["wandb"] = options
    object.__setattr__(config, "folder", str(tmp_path / "student"))
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / WANDB_ID).write_text("begun")
    csv = AppendingCSVLogger(tmp_path / "student")
    csv.log_metrics({"epoch": 999, "train/loss": 1.0}, step=10**6)
    before = csv.path.read_text()
    monkeypatch.setattr(rank_zero_only, "rank", 2)
    stage_loggers(config, trained / "student" / "last.ckpt")
    assert csv.path.read_text() == before
    assert (tmp_path / "student" / WANDB_ID).read_text() == "begun"
    assert not (tmp_path / "wandb").exists() or not list((tmp_path / "wandb").glob("offline-run-*"))


@pytest.fixture
def said(capsys):
    """A stage's ranks, of whose standard error a warning that two of them gave is a part."""
    ours = logging.getLogger("deitlt")
    before = list(ours.handlers)
    mark_warnings()
    for _ in range(2):
        logging.getLogger("deitlt.tracking.failures").warning("W&B failed,\n and training goes on")
    for handler in set(ours.handlers) - set(before):
        ours.removeHandler(handler)
    return SimpleNamespace(errors=f"chatter\n{capsys.readouterr().err}chatter\n")


def test_a_ranks_warning_is_heard_when_the_stage_ends_well(said, caplog, capsys):
    caplog.clear()
    conclude(Outcome(0), said)
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.WARNING, "W&B failed, and training goes on")
    assert "chatter" not in capsys.readouterr().err


def test_a_ranks_warning_is_heard_when_the_stage_was_stopped(said, caplog):
    caplog.clear()
    with pytest.raises(Preempted):
        conclude(Outcome(Preempted.CODE), said)
    assert len(caplog.records) == 1


def test_what_the_user_can_mend_stays_one_sentence(said, caplog):
    caplog.clear()
    with pytest.raises(TrainingError, match="The disk is full"):
        conclude(Outcome(2, "The disk is full."), said)
    assert caplog.records == []
