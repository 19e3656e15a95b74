import pytest
import torch

from deitlt.checkpoints import find_checkpoint, read_checkpoint
from deitlt.engine.sweep import prepare_sweep
from deitlt.errors import CheckpointError

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
SEARCH = ("-m", "sweep=optuna", "paths.sweep_dir=sweep")


def test_a_search_with_a_teacher_that_saw_its_held_out_images_is_refused_before_its_study_begins(complain, teacher):
    said = complain("train", *SEARCH, teacher, output=None)
    assert "was trained with data.val_fraction=0.0, so that with data.val_fraction=0.1 it has seen images" in said


def test_a_search_that_asks_no_teacher_or_one_of_its_own_split_is_not(tiny, teacher, held_out_teacher):
    own = [word for word in tiny if word.startswith("data.")]
    assert prepare_sweep([*SEARCH, *own, "data.val_fraction=0.3", held_out_teacher]).direction == "maximize"
    assert prepare_sweep([*SEARCH, teacher, "student/distillation=none"]).direction == "maximize"


def test_an_order_of_the_classes_in_a_relative_file_is_the_one_that_a_run_kept(tiny, held_out_teacher, tmp_path):
    (tmp_path / "order.txt").write_text(" ".join(map(str, reversed(range(10)))))
    own = [word for word in tiny if word.startswith("data.")] + ["data.val_fraction=0.3"]
    teacher = find_checkpoint(held_out_teacher.partition("=")[2], ("teacher",))
    content = read_checkpoint(teacher)
    content["deitlt"]["data"]["class_order"] = str(tmp_path / "order.txt")
    torch.save(content, tmp_path / "teacher.ckpt")
    words = [*SEARCH, *own, "teacher.checkpoint=teacher.ckpt"]
    assert prepare_sweep([*words, "data.class_order=order.txt"]).direction == "maximize"
    with pytest.raises(CheckpointError, match=r"so that with data\.class_order=count it has seen images"):
        prepare_sweep([*words, "data.class_order=count"])


def test_a_teacher_that_is_not_there_ends_no_search_job_by_job(tmp_path):
    with pytest.raises(CheckpointError, match="There is no checkpoint gone"):
        prepare_sweep([*SEARCH, "teacher.checkpoint=gone"])
    assert not (tmp_path / "sweep").exists()


def test_a_search_whose_students_start_from_weights_that_saw_them_is_refused_too(complain, tiny, trained):
    said = complain("train", *SEARCH, f"student.init={trained}", *[word for word in tiny if word.startswith("data.")])
    assert "The student in" in said
    assert "it has seen images that this run holds out; type student.init=null" in said


def test_nothing_is_asked_of_a_start_where_no_student_is_trained(tiny, trained):
    words = [*SEARCH, *[word for word in tiny if word.startswith("data.")], f"student.init={trained}"]
    for stages in ("stages=[teacher]", f"student.checkpoint={trained}"):
        assert prepare_sweep([*words, stages, "objective.metric=teacher/balanced"]).direction == "maximize"
    with pytest.raises(CheckpointError, match="The student in"):
        prepare_sweep([*words, f"student.checkpoint={trained}", "stages=[teacher,student,baseline]"])
