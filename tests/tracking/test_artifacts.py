import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from wandb_records import records

from deitlt.checkpoints import find_checkpoint
from deitlt.errors import CheckpointError
from deitlt.tracking import StageNames, artifacts, use_checkpoint, wandb_logger
from deitlt.tracking.artifacts import (
    ArtifactRecord,
    artifact_name,
    fetch_checkpoint,
    file_digest,
    log_checkpoint,
    read_record,
)

pytestmark = pytest.mark.usefixtures("own_wandb")


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "run" / "teacher" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    return path


def describe(checkpoint, **changes):
    known = {"name": "digits-teacher", "alias": "run7", "digest": file_digest(checkpoint), "file": "last.ckpt"}
    checkpoint.with_name("artifact.json").write_text(json.dumps(known | changes))


@pytest.fixture
def logged(tmp_path):
    """Runs something with the logger of a run and answers with the artifacts and the configuration that it recorded."""

    def run(act):
        options = {"project": "deitlt", "entity": None, "tags": [], "mode": "offline"}
        logger = wandb_logger(StageNames("student", tmp_path / "student", "g"), {}, options, tmp_path / "out")
        act(logger)
        config = dict(logger.experiment.config)
        logger.finish(0)
        wandb.teardown()
        kept = [record for path in tmp_path.glob("out/**/*.wandb") for record in records(path)]
        return [record.artifact for record in kept if record.WhichOneof("record_type") == "artifact"], config

    return run


def test_a_checkpoint_is_an_artifact_with_its_aliases(logged, checkpoint):
    found = []
    aliases = ["2026-11-23/12 00", "last"]

    def act(logger):
        found.append(log_checkpoint(logger, checkpoint, "digits-teacher", aliases, {"seed": 3}))

    (artifact,), _ = logged(act)
    (record,) = found
    assert (artifact.name, artifact.type, artifact.metadata) == ("digits-teacher", "model", '{"seed":3}')
    assert set(artifact.aliases) == {"latest", "2026-11-23-12-00", "last"}
    assert record == ArtifactRecord("digits-teacher", "2026-11-23-12-00", artifact.digest, "last.ckpt")
    (entry,) = artifact.manifest.contents
    assert (entry.path, entry.local_path) == ("last.ckpt", str(checkpoint))  # not copied


@pytest.mark.parametrize(
    ("changes", "artifact"),
    [
        ({}, "digits-teacher:run7"),
        ({"name": "me/deitlt/digits-teacher:v3"}, "me/deitlt/digits-teacher:v3"),
        ({"digest": "of another file"}, None),
        ({"file": "best.ckpt"}, None),
    ],
)
def test_a_teacher_is_named_by_what_lies_beside_it_if_that_is_of_this_file(logged, checkpoint, changes, artifact):
    describe(checkpoint, **changes)
    artifacts, config = logged(lambda logger: use_checkpoint(logger, checkpoint))
    known = {"artifact": artifact or str(checkpoint), "digest": file_digest(checkpoint), "file": str(checkpoint)}
    assert (artifacts, config["artifacts"]["teacher"]) == ([], known)


@pytest.mark.parametrize(("offline", "used"), [(False, ["digits-teacher:run7"]), (True, [])])
def test_online_a_teacher_is_an_input_of_the_run(checkpoint, offline, used):
    class Run:
        config, summary, disabled = {}, {}, False

        def use_artifact(self, name):
            asked.append(name)

    class Logger:
        experiment = Run()

    describe(checkpoint)
    asked, Run.offline = [], offline
    Run.config = type("Config", (dict,), {"update": lambda self, values, allow_val_change: dict.update(self, values)})()
    use_checkpoint(Logger(), checkpoint)
    assert asked == used
    assert Run.summary == {"artifacts/teacher": "digits-teacher:run7"}


@pytest.mark.parametrize("text", ["", "[]", '{"name": 1, "more": 2}'])
def test_a_broken_record_is_one_sentence(checkpoint, text):
    checkpoint.with_name("artifact.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"artifact\.json does not name an artifact; delete it"):
        read_record(checkpoint)


def test_a_missing_checkpoint_stops_nothing(logged, tmp_path, caplog):
    found = []
    artifacts, _ = logged(lambda logger: found.append(log_checkpoint(logger, tmp_path / "no.ckpt", "n", ["a"], {})))
    assert (artifacts, found) == ([], [None])
    assert "W&B failed to record a checkpoint, and training goes on without" in caplog.text


def test_names_are_such_as_wandb_takes():
    assert artifact_name("cifar10_lt_if100", "teacher") == "cifar10_lt_if100-teacher"
    assert artifact_name("my data: Ünï/", "student") == "my-data-n-student"
    assert artifact_name("/") == "model"
    assert len(artifact_name("x" * 300)) == 128


NAME = "wandb:me/deitlt/digits-teacher:latest"


class Shelf:
    """Stands for W&B's server: its artifacts' files by name."""

    def __init__(self):
        self.files = {}

    def artifact(self, name):
        if name not in self.files:
            raise ValueError(f"artifact {name} not found in me/deitlt\nand more")
        return SimpleNamespace(
            qualified_name="me/deitlt/digits-teacher:v3",
            version="v3",
            digest="abc",
            manifest=SimpleNamespace(entries=dict.fromkeys(self.files[name])),
            get_entry=lambda file: SimpleNamespace(download=lambda root: self.fetch(file, root)),
        )

    def fetch(self, file, root):
        Path(root).mkdir(parents=True, exist_ok=True)
        (Path(root) / file).write_bytes(b"weights")


@pytest.fixture
def shelf(monkeypatch, tmp_path):
    shelf = Shelf()
    monkeypatch.setattr(wandb, "Api", lambda timeout: shelf)
    monkeypatch.setattr(artifacts, "why_not_online", lambda: None)
    monkeypatch.setenv("DEITLT_CACHE", str(tmp_path / "cache"))
    return shelf


def test_an_artifact_is_fetched_into_the_cache_the_chosen_epoch_of_it(shelf, tmp_path):
    shelf.files[NAME.removeprefix("wandb:")] = ("last.ckpt", "best.ckpt", "notes.txt")
    path = find_checkpoint(Path(NAME), ("teacher",))
    assert (path.name, path.read_bytes()) == ("best.ckpt", b"weights")
    assert path.is_relative_to(tmp_path / "cache")
    record = read_record(path)
    assert (record.name, record.digest, record.fetched) == ("me/deitlt/digits-teacher:v3", "abc", True)


@pytest.mark.parametrize("files", [("notes.txt",), ("../../evil.ckpt",), ()])
def test_an_artifact_without_a_checkpoint(shelf, files, tmp_path):
    shelf.files[NAME.removeprefix("wandb:")] = files
    with pytest.raises(CheckpointError, match="digits-teacher:latest holds no checkpoint file; type wandb:ENTITY"):
        fetch_checkpoint(NAME)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["wandb:", "wandb:teacher", "wandb:a/teacher", "wandb:a/b/c/d:v0", "wandb:a/b c:v0"])
def test_a_name_of_no_artifact(shelf, name):
    with pytest.raises(CheckpointError, match=r"names no artifact; type wandb:ENTITY/PROJECT/NAME:ALIAS"):
        fetch_checkpoint(name)


def test_what_cannot_be_fetched_is_one_sentence(shelf, monkeypatch):
    with pytest.raises(CheckpointError, match=r"There is no artifact me/deitlt/typo:v0 \(artifact .* not found in"):
        fetch_checkpoint("wandb:me/deitlt/typo:v0")

    def fail(*_):
        raise OSError("connection reset")

    shelf.files[NAME.removeprefix("wandb:")] = ("last.ckpt",)
    monkeypatch.setattr(shelf, "fetch", fail)
    with pytest.raises(CheckpointError, match=r"could not be fetched \(connection reset\); try again"):
        fetch_checkpoint(NAME)
    monkeypatch.setattr(artifacts, "why_not_online", lambda: "no key is known (type wandb login)")
    with pytest.raises(CheckpointError, match=r"cannot be fetched: no key is known .*; type the path"):
        fetch_checkpoint(NAME)
