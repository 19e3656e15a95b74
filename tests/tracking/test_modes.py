import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import wandb

from deitlt.errors import ConfigError
from deitlt.tracking import modes, settle_mode
from deitlt.tracking.modes import wanted_mode, why_not_online

pytestmark = pytest.mark.usefixtures("own_wandb")
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
    monkeypatch.setattr(modes, "PATIENCE", 0.2)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        at(f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert "cannot be reached" in why_not_online()


def test_nothing_but_the_warning_is_printed(nobody, monkeypatch, capfd):
    monkeypatch.delenv("WANDB_SILENT")
    wandb.teardown()
    assert settle_mode(None) == "offline"
    wandb.teardown()
    assert "wandb" not in capfd.readouterr().err.replace("W&B", "").casefold()


def test_nobody_is_asked_where_offline_is_wanted(monkeypatch):
    monkeypatch.setattr(modes, "why_not_online", lambda: pytest.fail("a server was asked"))
    assert [settle_mode("offline"), settle_mode("disabled"), settle_mode(None)] == ["offline", "disabled", "offline"]


def test_a_server_that_answers_without_a_key_to_show_it(refusing, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    wandb.teardown()
    assert why_not_online() == "no key is known (type wandb login)"
