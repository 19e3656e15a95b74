import pytest

from deitlt.errors import CheckpointError
from deitlt.tasks.sweep import prepare_sweep

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


def test_a_teacher_that_is_not_there_ends_no_search_job_by_job(tmp_path):
    with pytest.raises(CheckpointError, match="There is no checkpoint gone"):
        prepare_sweep([*SEARCH, "teacher.checkpoint=gone"])
    assert not (tmp_path / "sweep").exists()


def test_a_search_whose_students_start_from_weights_that_saw_them_is_refused_too(complain, tiny, trained):
    said = complain("train", *SEARCH, f"student.init={trained}", *[word for word in tiny if word.startswith("data.")])
    assert "The student in" in said
    assert "it has seen images that this run holds out; type student.init=null" in said
