import pytest

from deitlt.checkpoints import find_checkpoint
from deitlt.errors import CheckpointError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_a_file_is_itself(tmp_path):
    touch(tmp_path / "any.name")
    assert find_checkpoint(str(tmp_path / "any.name"), ("student",)) == tmp_path / "any.name"


def test_a_run_is_searched_stage_by_stage(tmp_path):
    touch(tmp_path / "teacher/last.ckpt")
    assert find_checkpoint(tmp_path, ("student", "teacher")) == tmp_path / "teacher/last.ckpt"
    touch(tmp_path / "student/last.ckpt")
    assert find_checkpoint(tmp_path, ("student", "teacher")) == tmp_path / "student/last.ckpt"
    assert find_checkpoint(tmp_path, ("teacher",)) == tmp_path / "teacher/last.ckpt"


def test_a_stages_folder_and_the_chosen_epoch(tmp_path):
    touch(tmp_path / "student/last.ckpt")
    assert find_checkpoint(tmp_path / "student", ("student",)) == tmp_path / "student/last.ckpt"
    touch(tmp_path / "student/best.ckpt")
    assert find_checkpoint(tmp_path / "student", ("student",)) == tmp_path / "student/best.ckpt"
    assert find_checkpoint(tmp_path, ("student",)) == tmp_path / "student/best.ckpt"


def test_a_folder_without_one_says_where_it_should_be(tmp_path):
    with pytest.raises(CheckpointError, match=r"there should be .*student/last\.ckpt or .*teacher/last\.ckpt"):
        find_checkpoint(tmp_path, ("student", "teacher"))


def test_a_run_without_the_stage_says_which_it_has(tmp_path):
    touch(tmp_path / "student/last.ckpt", tmp_path / "teacher/best.ckpt")
    with pytest.raises(CheckpointError) as missing:
        find_checkpoint(tmp_path, ("baseline",), "stage")
    sentence = "has no baseline, but student and teacher; type stage=student or stage=teacher."
    assert str(missing.value) == f"{tmp_path} {sentence}"
    with pytest.raises(CheckpointError, match=r"has no baseline, but student and teacher; type another run's folder"):
        find_checkpoint(tmp_path, ("baseline",))


def test_a_folder_that_is_no_run_is_told_from_one(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no checkpoint; type checkpoint=RUN with a folder that deitlt"):
        find_checkpoint(tmp_path, ("baseline",), "stage")


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*nowhere; type the path of a \.ckpt file"):
        find_checkpoint(tmp_path / "nowhere", ("student",))
