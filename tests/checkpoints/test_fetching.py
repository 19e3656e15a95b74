import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb

from deitlt.checkpoints import fetch_checkpoint, fetching, find_checkpoint
from deitlt.errors import CheckpointError

NAME = "wandb:me/deitlt/digits-teacher:latest"


class Shelf:
    """Stands for W&B's server: artifacts by name, and what was fetched of them."""

    def __init__(self):
        self.artifacts, self.fetched = {}, []

    def add(self, name, *files):
        entries = dict.fromkeys(files)
        self.artifacts[name] = SimpleNamespace(
            qualified_name="me/deitlt/digits-teacher:v3",
            version="v3",
            digest="abc",
            manifest=SimpleNamespace(entries=entries),
            get_entry=lambda file: SimpleNamespace(download=lambda root: self._fetch(file, root)),
        )

    def artifact(self, name):
        if name not in self.artifacts:
            raise ValueError(f"artifact {name} not found in me/deitlt\nand more")
        return self.artifacts[name]

    def _fetch(self, file, root):
        self.fetched.append(file)
        Path(root).mkdir(parents=True, exist_ok=True)
        (Path(root) / file).write_bytes(b"weights")


@pytest.fixture
def shelf(monkeypatch, tmp_path):
    shelf = Shelf()
    monkeypatch.setattr(wandb, "Api", lambda timeout: shelf)
    monkeypatch.setattr(fetching, "why_not_online", lambda: None)
    monkeypatch.setenv("DEITLT_CACHE", str(tmp_path / "cache"))
    return shelf


def test_a_checkpoint_is_fetched_once_into_the_cache(shelf, tmp_path):
    shelf.add("me/deitlt/digits-teacher:latest", "last.ckpt")
    path = find_checkpoint(NAME, ("teacher",))
    assert path.read_bytes() == b"weights"
    assert path.is_relative_to(tmp_path / "cache")
    assert find_checkpoint(Path(NAME), ("teacher",)) == path
    assert shelf.fetched == ["last.ckpt"]
    record = json.loads(path.with_name("artifact.json").read_text())
    assert (record["name"], record["digest"]) == ("me/deitlt/digits-teacher:v3", "abc")


def test_what_was_fetched_in_part_is_fetched_again(shelf):
    shelf.add("me/deitlt/digits-teacher:latest", "last.ckpt")
    path = fetch_checkpoint(NAME)
    path.with_name("artifact.json").unlink()
    assert fetch_checkpoint(NAME) == path
    assert shelf.fetched == ["last.ckpt", "last.ckpt"]


def test_the_chosen_epoch_comes_first(shelf):
    shelf.add("me/deitlt/digits-teacher:latest", "last.ckpt", "best.ckpt", "notes.txt")
    assert fetch_checkpoint(NAME).name == "best.ckpt"


def test_no_such_artifact(shelf):
    with pytest.raises(CheckpointError, match=r"There is no artifact me/deitlt/typo:v0 \(artifact .* not found in"):
        fetch_checkpoint("wandb:me/deitlt/typo:v0")


@pytest.mark.parametrize("files", [("notes.txt",), ("../../evil.ckpt",), ()])
def test_an_artifact_without_a_checkpoint(shelf, files, tmp_path):
    shelf.add("me/deitlt/digits-teacher:latest", *files)
    with pytest.raises(CheckpointError, match="digits-teacher:latest holds no checkpoint file; type wandb:ENTITY"):
        fetch_checkpoint(NAME)
    assert shelf.fetched == []


@pytest.mark.parametrize(
    "name", ["wandb:", "wandb:teacher", "wandb:deitlt/teacher", "wandb:a/b/c/d:v0", "wandb:a/b c:v0"]
)
def test_a_name_that_is_none(shelf, name):
    with pytest.raises(CheckpointError, match=r"names no artifact; type wandb:ENTITY/PROJECT/NAME:ALIAS"):
        fetch_checkpoint(name)


@pytest.mark.parametrize("reason", ["https://x cannot be reached", "no key is known (type wandb login)"])
def test_no_network_or_no_key(monkeypatch, reason):
    monkeypatch.setattr(fetching, "why_not_online", lambda: reason)
    with pytest.raises(CheckpointError) as refused:
        fetch_checkpoint(NAME)
    assert str(refused.value) == f"{NAME} cannot be fetched: {reason}; type the path of a .ckpt file."


def test_a_connection_that_breaks_off(shelf, monkeypatch):
    shelf.add("me/deitlt/digits-teacher:latest", "last.ckpt")

    def fail(file, root):
        raise OSError("connection reset")

    monkeypatch.setattr(shelf, "_fetch", fail)
    with pytest.raises(CheckpointError, match=r"could not be fetched \(connection reset\); try again"):
        fetch_checkpoint(NAME)
