import json
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import wandb
from PIL import Image
from wandb_records import read_run

from deitlt.errors import ConfigError
from deitlt.tracking import (
    finish,
    log_pictures,
    log_table,
    pictures_in,
    settle_mode,
    upload_hint,
    wandb_logger,
)
from deitlt.tracking import wandb as tracking_wandb
from deitlt.tracking.wandb import wanted_mode, why_not_online

CONFIG = {"seed": 3, "data": {"name": "digits", "imbalance_factor": 0.05}}
ROWS = [
    {"class": "cat", "train images": 120, "group": "head", "CLS": 99.5, "DIST": 90.0},
    {"class": "dog", "train images": 6, "group": "tail", "CLS": None, "DIST": 69.3},
]


pytestmark = pytest.mark.usefixtures("own_wandb")


def begin(folder, job_type="student", **changes):
    options = {"entity": None, "group": "run 7", "tags": ["digits"], "mode": "offline"} | changes
    return wandb_logger("deitlt", job_type=job_type, name=f"run 7 {job_type}", folder=folder, config=CONFIG, **options)


def end(logger):
    """Finish the run, and W&B's service too: only then is the whole file on the disk."""
    finish(logger)
    wandb.teardown()


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "views.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)).save(path)
    return path


def test_an_offline_run_holds_what_was_logged(tmp_path, picture, capfd):
    logger = begin(tmp_path / "student")
    logger.log_metrics({"epoch": 0, "train/loss": 2.5, "test/dist/tail": 70.25}, step=4)
    logger.log_metrics({"epoch": 1, "train/loss": 1.5, "test/dist/tail": 69.5}, step=9)
    log_table(logger, "per_class", ROWS)
    log_pictures(logger, {"pictures/views": picture})
    end(logger)
    assert capfd.readouterr() == ("", "")
    run = read_run(tmp_path / "student")
    assert [row["test/dist/tail"] for row in run.history[:2]] == [70.25, 69.5]
    assert [(row["epoch"], row["trainer/global_step"]) for row in run.history[:2]] == [(0, 4), (1, 9)]
    assert run.config["seed"] == 3
    assert run.config["data"] == CONFIG["data"]
    assert run.summary["test/dist/tail"] == {"last": 69.5, "max": 70.25}
    assert run.summary["train/loss"] == {"last": 1.5, "min": 1.5}
    assert run.exit_code == 0


def test_metrics_are_drawn_against_the_epoch(tmp_path):
    logger = begin(tmp_path)
    for epoch in range(2):
        logger.log_metrics(
            {"epoch": epoch, "train/loss": 1.0, "train/lr": 0.1, "val/all": 3.0, "test/cls/all": 2.0}, step=epoch
        )
    end(logger)
    metrics = read_run(tmp_path).metrics
    assert metrics["*"].step_metric == "epoch"
    for name in ("val/all", "test/cls/all"):
        assert metrics[name].step_metric == "epoch"
        assert (metrics[name].summary.max, metrics[name].summary.last) == (True, True)
    assert (metrics["train/loss"].summary.min, metrics["train/loss"].summary.max) == (True, False)
    assert "train/lr" not in metrics


def test_the_table_of_classes_is_in_the_files(tmp_path):
    logger = begin(tmp_path)
    log_table(logger, "per_class", ROWS)
    end(logger)
    (name,) = [name for name in read_run(tmp_path).files if "per_class" in name]
    (path,) = tmp_path.glob(f"wandb/offline-run-*/files/{name}")
    table = json.loads(path.read_text())
    assert table["columns"] == ["class", "train images", "group", "CLS", "DIST"]
    assert table["data"] == [["cat", 120, "head", 99.5, 90.0], ["dog", 6, "tail", None, 69.3]]


def test_each_stage_is_a_run_of_its_own(tmp_path):
    begin(tmp_path / "teacher", job_type="teacher").log_metrics({"epoch": 0, "train/loss": 1.0}, step=0)
    student = begin(tmp_path / "student")  # the teacher's was left open
    student.log_metrics({"epoch": 0, "train/loss": 2.0}, step=0)
    end(student)
    teacher_run, student_run = read_run(tmp_path / "teacher"), read_run(tmp_path / "student")
    assert teacher_run.run.run_id != student_run.run.run_id
    assert [row["train/loss"] for row in teacher_run.history] == [1.0]
    assert [row["train/loss"] for row in student_run.history] == [2.0]


def test_a_failing_wandb_is_warned_about_once(tmp_path, caplog):
    logger = begin(tmp_path)
    for _ in range(2):
        log_pictures(logger, {"pictures/views": tmp_path / "missing.png"})
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
    log_table(logger, "per_class", ROWS)
    end(logger)
    assert not list(tmp_path.glob("run/wandb/*run-*"))
    assert upload_hint(tmp_path) == ""
    assert not caplog.records


def test_the_hint_names_every_offline_run(tmp_path):
    for stage in ("teacher", "my student"):
        (tmp_path / stage / "wandb" / f"offline-run-1-{stage[:2]}").mkdir(parents=True)
    hint = upload_hint(tmp_path)
    assert hint.startswith(f"wandb sync '{tmp_path}/my student/wandb/offline-run-1-my' ")
    assert hint.endswith("teacher/wandb/offline-run-1-te")


def test_a_folders_pictures_stand_in_one_row(tmp_path, picture):
    logger = begin(tmp_path)
    log_pictures(logger, pictures_in(tmp_path, "pictures/analysis"))
    log_pictures(logger, pictures_in(tmp_path / "nothing", "pictures/none"))
    end(logger)
    (row,) = read_run(tmp_path).history
    assert row["pictures/analysis/views/_type"] == "image-file"
    assert not any(name.startswith("pictures/none") for name in row)


def test_a_stage_that_failed_is_a_failed_run(tmp_path):
    logger = begin(tmp_path)
    finish(logger, exit_code=1)
    wandb.teardown()
    assert read_run(tmp_path).exit_code == 1


def test_a_run_goes_on_under_its_id_offline_too(tmp_path):
    first = begin(tmp_path / "first")
    first.log_metrics({"epoch": 0, "train/loss": 2.0}, step=0)
    end(first)
    again = begin(tmp_path / "again", run_id=first.version)
    again.log_metrics({"epoch": 1, "train/loss": 1.0}, step=1)
    end(again)
    before, after = read_run(tmp_path / "first"), read_run(tmp_path / "again")
    assert before.run.run_id == after.run.run_id == first.version
    assert [row["epoch"] for row in (*before.history, *after.history)] == [0, 1]


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


def test_online_where_a_key_is_known_else_offline(monkeypatch):
    assert wanted_mode(None) == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wanted_mode(None) == "online"
    assert wanted_mode("offline") == "offline"
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert wanted_mode("online") == "offline"


def test_a_key_in_netrc_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    wandb.teardown()
    (tmp_path / "netrc").write_text(f"machine wandb.example.org login user password {KEY}\n")
    assert wanted_mode(None) == "online"


def test_a_key_that_cannot_be_one_means_offline(monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "not a key!")
    assert settle_mode(None) == "offline"
    assert "its key cannot be used" in caplog.text


def test_an_unknown_mode_is_refused_by_its_source(monkeypatch):
    with pytest.raises(ConfigError, match=r"logger\.wandb\.mode='ofline' is no mode of W&B; did you mean 'offline'\?"):
        settle_mode("ofline")
    monkeypatch.setenv("WANDB_MODE", "maybe")
    with pytest.raises(ConfigError, match="WANDB_MODE='maybe' is no mode of W&B; type one of "):
        settle_mode("offline")


def test_without_a_network_a_run_is_offline_and_says_so_once(nobody, caplog):
    assert [settle_mode("online"), settle_mode(None)] == ["offline", "offline"]
    (said,) = (record.message for record in caplog.records)
    assert said == f"W&B records offline, to be uploaded later: {nobody} cannot be reached"


def test_without_a_key_a_run_is_offline_and_says_so_once(caplog):
    assert [settle_mode(None), settle_mode(None)] == ["offline", "offline"]
    (said,) = (record.message for record in caplog.records)
    assert said == "W&B records offline, to be uploaded later: no key is known (type wandb login)"


def test_who_asks_for_offline_is_told_nothing(monkeypatch, caplog):
    assert settle_mode("offline") == "offline"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert settle_mode(None) == "offline"
    assert not caplog.records


def test_a_key_that_the_server_does_not_take_means_offline(refusing, caplog):
    assert settle_mode(None) == "offline"
    assert "does not take the key" in caplog.text


def test_a_server_that_says_nothing_is_given_up(at, monkeypatch):
    monkeypatch.setattr(tracking_wandb, "PATIENCE", 0.2)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        at(f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert "cannot be reached" in why_not_online()


def test_nobody_is_asked_where_offline_is_wanted(monkeypatch):
    monkeypatch.setattr(tracking_wandb, "why_not_online", lambda: pytest.fail("a server was asked"))
    assert [settle_mode("offline"), settle_mode("disabled"), settle_mode(None)] == ["offline", "disabled", "offline"]
