import pytest
import wandb
from wandb_records import records

from deitlt.tracking import (
    ArtifactRecord,
    artifact_name,
    file_digest,
    finish,
    log_checkpoint,
    use_checkpoint,
    wandb_logger,
)

pytestmark = pytest.mark.usefixtures("own_wandb")


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "run" / "teacher" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def logged(tmp_path):
    """Runs something with the logger of a run and answers with the artifacts and the configuration that it recorded."""

    def run(act, mode="offline"):
        logger = wandb_logger("deitlt", None, "g", "student", "name", tmp_path / "out", {}, mode=mode)
        act(logger)
        config = dict(logger.experiment.config)
        finish(logger)
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


def test_offline_a_teacher_is_named_and_linked_when_it_is_uploaded(logged, checkpoint):
    record = ArtifactRecord("digits-teacher", "run7", file_digest(checkpoint), "last.ckpt")
    (artifact,), config = logged(lambda logger: use_checkpoint(logger, checkpoint, record))
    assert (artifact.use_after_commit, artifact.user_created) == (True, True)
    assert (artifact.name, artifact.digest) == ("digits-teacher", record.digest)
    teacher = config["artifacts"]["teacher"]
    assert teacher == {"artifact": "digits-teacher:run7", "digest": record.digest, "file": str(checkpoint)}


def test_a_fetched_teacher_is_named_by_the_server(logged, checkpoint):
    record = ArtifactRecord("me/deitlt/digits-teacher:v3", "v3", "d", "last.ckpt")
    artifacts, config = logged(lambda logger: use_checkpoint(logger, checkpoint, record))
    assert artifacts == []
    assert config["artifacts"]["teacher"]["artifact"] == "me/deitlt/digits-teacher:v3"


def test_a_missing_checkpoint_stops_nothing(logged, tmp_path, caplog):
    found = []
    artifacts, _ = logged(lambda logger: found.append(log_checkpoint(logger, tmp_path / "no.ckpt", "n", ["a"], {})))
    assert (artifacts, found) == ([], [None])
    assert "W&B failed to record a checkpoint, and training goes on without" in caplog.text


def test_disabled_nothing_is_recorded(logged, checkpoint):
    record = ArtifactRecord("digits-teacher", "run7", "d", "last.ckpt")
    artifacts, _ = logged(lambda logger: use_checkpoint(logger, checkpoint, record), mode="disabled")
    assert artifacts == []


def test_names_are_such_as_wandb_takes():
    assert artifact_name("cifar10_lt_if100", "teacher") == "cifar10_lt_if100-teacher"
    assert artifact_name("my data: Ünï/", "student") == "my-data-n-student"
    assert artifact_name("/") == "model"
    assert len(artifact_name("x" * 300)) == 128


def test_the_digest_is_that_of_the_content(checkpoint, tmp_path):
    other = tmp_path / "last.ckpt"
    other.write_bytes(b"weights")
    assert file_digest(checkpoint) == file_digest(other)
    other.write_bytes(b"others")
    assert file_digest(checkpoint) != file_digest(other)
