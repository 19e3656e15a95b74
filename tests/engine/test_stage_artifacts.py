import json

import pytest

from deitlt.engine.stage_artifacts import read_record
from deitlt.errors import CheckpointError
from deitlt.tracking import file_digest


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"weights")
    return path


def describe(checkpoint, **changes):
    known = {"name": "digits-teacher", "alias": "run7", "digest": file_digest(checkpoint), "file": "last.ckpt"}
    checkpoint.with_name("artifact.json").write_text(json.dumps(known | changes))


def test_a_teacher_is_known_by_what_lies_beside_it(checkpoint):
    describe(checkpoint)
    assert (read_record(checkpoint).name, read_record(checkpoint).alias) == ("digits-teacher", "run7")


@pytest.mark.parametrize("changes", [{"digest": "of another file"}, {"file": "best.ckpt"}])
def test_a_record_of_another_file_is_not_believed(checkpoint, changes):
    describe(checkpoint, **changes)
    record = read_record(checkpoint)
    assert (record.name, record.digest) == ("given-teacher-last", file_digest(checkpoint))


def test_a_teacher_that_never_was_an_artifact_gets_a_name(checkpoint):
    assert read_record(checkpoint).name == "given-teacher-last"


@pytest.mark.parametrize("text", ["", "[]", '{"name": 1, "more": 2}'])
def test_a_broken_record_is_one_sentence(checkpoint, text):
    checkpoint.with_name("artifact.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"artifact\.json does not name an artifact; delete it"):
        read_record(checkpoint)
