import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import wandb
from wandb_records import read_run

from deitlt.errors import ConfigError
from deitlt.tracking import (
    Begin,
    StageNames,
    failures,
    log_pictures,
    open_loggers,
    settle_mode,
    stage_loggers,
    wandb_logger,
)
from deitlt.tracking import wandb as tracking_wandb
from deitlt.tracking.wandb import upload_hint

OPTIONS = {"project": "deitlt", "entity": None, "tags": ["digits"], "mode": "offline"}

pytestmark = pytest.mark.usefixtures("own_wandb")


def begin(folder, mode="offline"):
    return wandb_logger(StageNames("student", folder / "student", "run 7"), {}, OPTIONS | {"mode": mode}, folder)


def end(logger):
    """Finish the run, and W&B's service too: only then is the whole file on the disk."""
    logger.finish(0)
    wandb.teardown()


@pytest.mark.parametrize(
    ("folder", "group", "run"),
    [("outputs/day/12-00", "day-12-00", "day-12-00"), ("sweeps/mine/0", "sweeps-mine", "sweeps-mine-0")],
)
def test_a_sweeps_job_has_the_sweeps_name_before_its_own(folder, group, run):
    assert StageNames("student", Path(folder) / "student", group).run == run


def test_without_wandb_a_stage_has_its_csv_file_and_a_resumed_one_its_earlier_rows(tmp_path):
    names = StageNames("student", tmp_path / "run" / "student", "run")
    (csv,) = stage_loggers(names, {}, {}, None)
    for step in range(4):
        csv.log_metrics({"epoch": step, "loss": step}, step=step)
    (again,) = stage_loggers(names, {}, {}, 2)
    assert again.path.read_text() == "epoch,step,loss\n0,0,0\n1,1,1\n2,2,2\n"


def test_metrics_are_drawn_against_the_epoch_and_nothing_is_printed(tmp_path, capfd):
    logger = begin(tmp_path)
    for epoch, tail in enumerate((70.25, 69.5)):
        values = {"epoch": epoch, "train/loss": 1.0, "train/lr": 0.1, "val/all": 3.0, "test/cls/tail": tail}
        logger.log_metrics(values, step=epoch)
    end(logger)
    assert capfd.readouterr() == ("", "")
    run = read_run(tmp_path)
    assert [(row["epoch"], row["trainer/global_step"]) for row in run.history[:2]] == [(0, 0), (1, 1)]
    assert run.summary["test/cls/tail"] == {"last": 69.5, "max": 70.25}
    assert run.metrics["*"].step_metric == "epoch"
    for name in ("val/all", "test/cls/tail"):
        assert run.metrics[name].step_metric == "epoch"
        assert (run.metrics[name].summary.max, run.metrics[name].summary.last) == (True, True)
    assert (run.metrics["train/loss"].summary.min, run.metrics["train/loss"].summary.max) == (True, False)
    assert "train/lr" not in run.metrics


def test_a_resumed_stage_goes_on_with_its_run_offline_too(tmp_path):
    names = StageNames("student", tmp_path / "run" / "student", "run")
    names.folder.mkdir(parents=True)
    for epoch in range(2):
        _, logger = stage_loggers(names, {}, {"wandb": OPTIONS}, None)
        logger.log_metrics({"epoch": epoch, "train/loss": 2.0}, step=epoch)
        end(logger)
        (tmp_path / "run" / "wandb").rename(tmp_path / f"kept{epoch}")
    before, after = (read_run(tmp_path / f"kept{epoch}") for epoch in range(2))
    assert before.run.run_id == after.run.run_id == logger.version
    assert [row["epoch"] for row in (*before.history, *after.history)] == [0, 1]


def test_what_is_recorded_of_a_checkpoint_that_is_no_stages_leaves_no_run_for_the_next_to_join(tmp_path):
    names = StageNames("student", tmp_path / "downloads", "analysis")
    names.folder.mkdir()
    (logger,) = open_loggers(names, {}, {"wandb": OPTIONS}, tmp_path / "out", Begin())
    end(logger)
    assert not list(names.folder.iterdir())


def test_a_run_that_was_left_open_is_finished_before_the_next_begins(tmp_path):
    for folder, loss in (("teacher", 1.0), ("student", 2.0)):
        logger = begin(tmp_path / folder)
        logger.log_metrics({"epoch": 0, "train/loss": loss}, step=0)
    end(logger)
    runs = [read_run(tmp_path / folder) for folder in ("teacher", "student")]
    assert len({run.run.run_id for run in runs}) == 2
    assert [row["train/loss"] for run in runs for row in run.history] == [1.0, 2.0]


def test_a_failing_wandb_is_warned_about_once(tmp_path, caplog):
    logger = begin(tmp_path)
    for _ in range(2):
        log_pictures([logger], {"pictures/views": tmp_path / "missing.png"})
    end(logger)
    for _ in range(2):
        logger.log_metrics({"epoch": 0, "a": 1.0}, step=0)
    warnings = [record.message for record in caplog.records if record.name == "deitlt.tracking.failures"]
    assert len([message for message in warnings if "record pictures, and training goes on" in message]) == 1
    assert len([message for message in warnings if "record metrics, and training goes on" in message]) == 1


def test_a_server_out_of_reach_leaves_an_offline_run(tmp_path, monkeypatch, caplog):
    begun = []

    def fail_online(**options):
        begun.append(options["mode"])
        if options["mode"] == "online":
            raise wandb.errors.CommError("no route to host")
        return original(**options)

    original = wandb.init
    monkeypatch.setattr(wandb, "init", fail_online)
    logger = begin(tmp_path, mode="online")
    logger.log_metrics({"epoch": 0, "train/loss": 2.0}, step=0)
    end(logger)
    assert begun == ["online", "offline"]
    assert "no route to host" in caplog.text
    assert [row["train/loss"] for row in read_run(tmp_path).history] == [2.0]


def test_a_disabled_run_writes_nothing(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    logger = begin(tmp_path / "run", mode="disabled")
    logger.log_metrics({"epoch": 0, "a": 1.0}, step=0)
    end(logger)
    assert not list(tmp_path.glob("run/wandb/*run-*"))
    assert upload_hint(tmp_path) == ""
    assert not caplog.records


def test_the_hint_names_every_offline_run(tmp_path):
    for stage in ("teacher", "my student"):
        (tmp_path / stage / "wandb" / f"offline-run-1-{stage[:2]}").mkdir(parents=True)
    hint = upload_hint(tmp_path)
    assert hint.startswith(f"wandb sync '{tmp_path}/my student/wandb/offline-run-1-my' ")
    typed, said = hint.split("  # ")
    assert typed.endswith("teacher/wandb/offline-run-1-te")
    assert said == "before the folder is moved: checkpoints are read from where they lie"


KEY = "k" * 40


class Refusing(BaseHTTPRequestHandler):
    """A server that takes no key."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(401)
        self.end_headers()

    do_GET = do_POST  # noqa: N815

    def log_message(self, *words):
        pass


@pytest.fixture
def at(monkeypatch):
    """Tells W&B where its server is, and gives it a key."""

    def tell(address):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        wandb.teardown()

    return tell


@pytest.fixture
def nobody(at):
    """A server that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    at(address)
    return address


@pytest.fixture
def refusing(at):
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at(f"http://127.0.0.1:{server.server_port}")
        yield
        wandb.teardown()
        server.shutdown()


def said(caplog):
    return [record.message.removeprefix("W&B records offline, to be uploaded later: ") for record in caplog.records]


@pytest.mark.parametrize(
    ("environment", "mode", "settled"),
    [
        ({}, "offline", "offline"),
        ({}, "disabled", "disabled"),
        ({"WANDB_API_KEY": KEY}, "offline", "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "dryrun"}, "online", "offline"),
        ({"WANDB_MODE": "offline"}, None, "offline"),
    ],
)
def test_who_asks_for_offline_is_told_nothing_and_nobody_is_asked(environment, mode, settled, monkeypatch, caplog):
    monkeypatch.setattr(tracking_wandb, "why_not_online", lambda: pytest.fail("a server was asked"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert settle_mode(mode) == settled
    assert not caplog.records


def test_a_run_is_online_where_a_key_is_known_in_the_environment_or_in_netrc(monkeypatch, tmp_path):
    monkeypatch.setattr(tracking_wandb, "why_not_online", lambda: None)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    wandb.teardown()
    assert settle_mode(None) == "offline"
    (tmp_path / "netrc").write_text(f"machine wandb.example.org login user password {KEY}\n")
    assert settle_mode(None) == "online"
    (tmp_path / "netrc").unlink()
    wandb.teardown()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert settle_mode(None) == "online"


def test_an_unknown_mode_is_refused_by_its_source(monkeypatch):
    with pytest.raises(ConfigError, match=r"logger\.wandb\.mode='ofline' is no mode of W&B; did you mean 'offline'\?"):
        settle_mode("ofline")
    monkeypatch.setenv("WANDB_MODE", "maybe")
    with pytest.raises(ConfigError, match="WANDB_MODE='maybe' is no mode of W&B; type one of "):
        settle_mode("offline")


def test_without_a_network_a_run_is_offline_and_says_so_once(nobody, caplog):
    assert [settle_mode("online"), settle_mode(None)] == ["offline", "offline"]
    assert said(caplog) == [f"{nobody} cannot be reached"]


def test_without_a_key_or_with_what_is_none_a_run_is_offline_and_says_so_once(caplog, monkeypatch):
    assert [settle_mode(None), settle_mode(None)] == ["offline", "offline"]
    assert said(caplog) == ["no key is known (type wandb login)"]
    monkeypatch.setattr(failures, "_warned", set())
    monkeypatch.setenv("WANDB_API_KEY", "not a key!")
    assert settle_mode(None) == "offline"
    assert "its key cannot be used" in caplog.text


def test_a_key_that_the_server_does_not_take_means_offline(refusing, caplog):
    assert settle_mode(None) == "offline"
    assert "does not take the key" in caplog.text


def test_a_server_that_says_nothing_is_given_up(at, monkeypatch):
    monkeypatch.setattr(tracking_wandb, "PATIENCE", 0.2)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        at(f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert "cannot be reached" in tracking_wandb.why_not_online()
