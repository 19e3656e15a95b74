"""The Hub: what is asked of it and taken from it, by its own client from a server here; and what is pushed to it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import huggingface_hub
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

from deitlt.checkpoints import find_checkpoint
from deitlt.errors import CheckpointError, ConfigError
from deitlt.tracking import fetch, is_name, push_folder

COMMIT = "a" * 40
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"code", "README.md": b"words"}


class Hub(BaseHTTPRequestHandler):
    """The answers of the Hub's server for the model me/mine, and for me/pickled, which has no safe weights."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.asked.append(path)
        model = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        files = {name: content for name, content in FILES.items() if model == "me/mine" or "model.s" not in name}
        if model not in ("me/mine", "me/pickled"):
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif "/revision/" in path and path.rpartition("/")[2] not in ("main", "v1", COMMIT):
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif "/revision/" in path:
            self._answer(200, json.dumps({"id": model, "sha": COMMIT, "siblings": []}).encode())
        elif "/tree/" in path:
            listed = [{"type": "file", "path": n, "size": len(c), "oid": n} for n, c in files.items()]
            self._answer(200, json.dumps(listed).encode())
        else:
            name = path.rpartition("/")[2]
            self._answer(200, files[name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})

    def _answer(self, status, content, headers=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Starts a server that the client takes for the Hub; gives the paths that it is asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(Hub, "asked", [])
    yield Hub.asked
    server.shutdown()
    server.server_close()


def test_only_what_no_reader_runs_is_fetched_and_once(hub, tmp_path):
    file = find_checkpoint("hf://me/mine", ("student",))
    assert file.read_bytes() == b"weights"
    assert file.name == "model.safetensors"
    assert sorted(path.name for path in file.parent.iterdir()) == ["config.json", "model.safetensors"]
    assert not any(name in path for path in hub for name in ("pytorch_model.bin", "README"))
    hub.clear()
    assert fetch(f"hf://me/mine@{COMMIT}") == file
    assert not any("resolve" in path for path in hub)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf://mine", r"hf://mine names no model on the Hub; type hf://USER/NAME, or hf://USER/NAME@REVISION\."),
        ("hf://me/mine/file", "names no model on the Hub"),
        ("hf://me/../mine", "names no model on the Hub"),
        ("hf://me/mine@", "names no model on the Hub"),
        ("hf://me/typo", "There is no model me/typo on the Hub that you may read; type hf://USER/NAME of another"),
        ("hf://me/mine@v9", r"me/mine has no revision v9 on the Hub; type hf://me/mine\."),
        ("hf://me/pickled", r"holds no model\.safetensors, and files that could run code are not fetched"),
    ],
)
def test_a_name_without_a_model_is_one_sentence(name, said, hub):
    with pytest.raises(CheckpointError, match=said):
        fetch(name)


def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        CheckpointError, match=r"could not be fetched \(ConnectError\); go online, or type the path of a folder"
    ):
        fetch("hf://me/mine")


@pytest.fixture
def pushed(monkeypatch):
    """What is asked of the Hub's client in place of a push."""
    asked = []
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_token")
    monkeypatch.setattr(HfApi, "create_repo", lambda _, name, **words: asked.append((name, words)) or f"page of {name}")
    monkeypatch.setattr(HfApi, "upload_folder", lambda _, **words: asked.append(words))
    return asked


def test_a_push_makes_the_model_and_sends_the_exported_files_alone(pushed, tmp_path):
    assert push_folder(tmp_path, ["config.json", "README.md"], "me/mine") == "page of me/mine"
    (name, made), sent = pushed
    assert (name, made) == ("me/mine", {"exist_ok": True})
    assert (sent["repo_id"], sent["folder_path"]) == ("me/mine", tmp_path)
    assert sent["allow_patterns"] == ["config.json", "README.md"]


def _refusal(status):
    response = type("Response", (), {"status_code": status, "headers": {}, "request": None})()
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    error.response = response
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (_refusal(403), r"\(your token may not write to me/mine\); type hf auth login, or HF_TOKEN=TOKEN before"),
        (_refusal(400), r"\(the Hub refused it: HfHubHTTPError 400\); mend that, then hf upload me/mine "),
        (ConnectionError("a page of advice"), r"\(ConnectionError\); go online, then hf upload me/mine "),
    ],
)
def test_a_push_that_fails_says_why_and_what_to_type(error, said, pushed, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(HfApi, "upload_folder", fail)
    with pytest.raises(ConfigError, match=rf"is written, but was not pushed {said}"):
        push_folder(tmp_path, ["config.json"], "me/mine")


def test_a_push_without_a_token_asks_nobody(pushed, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(ConfigError, match=r"no token of the Hub is known here\); type hf auth login, or HF_TOKEN"):
        push_folder(tmp_path, ["config.json"], "me/mine")
    assert pushed == []


def test_names_of_the_hub():
    assert is_name("me/mine-2.0_a")
    assert not any(map(is_name, ("mine", "me/", "me/mi ne", "me/..", "me/a/b", "https://hub/me", "-me/mine")))
