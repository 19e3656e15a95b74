import pytest
from hydra import compose, initialize_config_dir

from deitlt.config.compose import config_dir
from deitlt.engine.objective import check_objective, logged_as, objective_metric, objective_value
from deitlt.errors import ConfigError

METRICS = {"val": {"student": {"avg": {"all": 50.0, "tail": 10.0}}}, "teacher": {"all": 97.0}}


def composed(*overrides):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides=list(overrides))


@pytest.mark.parametrize(
    ("overrides", "metric"),
    [
        ((), "student/avg/balanced"),
        (("data.val_fraction=0.1",), "val/student/avg/balanced"),
        (("method=vit",), "student/cls/balanced"),
        (("stages=[teacher]",), "teacher/balanced"),
        (("stages=[teacher,student,baseline]",), "baseline/cls/balanced"),
        (("stages=[teacher]", "data.val_fraction=0.1"), "val/teacher/balanced"),
        (("objective.metric=student_ema/dist/tail",), "student_ema/dist/tail"),
    ],
)
def test_the_number_is_of_the_last_stage_and_on_held_out_images_where_there_are_some(overrides, metric):
    config = composed(*overrides)
    assert objective_metric(config) == metric
    check_objective(config)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("objective.metric=student/avg/balance",), "did you mean 'student/avg/balanced'?"),
        (("objective.metric=val/student/avg/tail",), "type data.val_fraction=0.1"),
        (("objective.metric=student/dist/tail", "method=vit"), "none that this run measures"),
        (("objective.metric=teacher/all", "stages=[student]"), "none that this run measures"),
        (("objective.metric=student/fused/tail",), "fitted on held-out images, and there are none; type data.val_"),
        (("objective.metric=student_ema/least_regret/all",), "type data.val_fraction=0.1"),
        (("objective.metric=foo",), "type objective.metric=STAGE/TOKEN/NAME, as student/avg/tail; NAME: all, "),
        (("objective.metric=foo", "stages=[teacher]"), "type objective.metric=STAGE/NAME, as teacher/tail; NAME: all"),
        (("objective.metric=val/student/fused/all", "data.val_fraction=0.1"), "none that this run measures"),
    ],
)
def test_what_the_run_does_not_measure_is_refused(overrides, words):
    with pytest.raises(ConfigError, match=r"objective\.metric=") as error:
        check_objective(composed(*overrides))
    assert words in str(error.value)
    assert len(str(error.value)) < 200


def test_a_fusion_that_is_fitted_on_held_out_images_is_measured_where_there_are_some():
    check_objective(composed("objective.metric=student/least_regret/tail", "data.val_fraction=0.1"))
    check_objective(composed("objective.metric=student/mean_prob/tail"))


def test_a_value_is_found_by_its_path_and_what_was_not_measured_has_none():
    assert objective_value(METRICS, "val/student/avg/tail") == 10.0
    assert objective_value(METRICS, "teacher/all") == 97.0
    assert objective_value(METRICS, "val/student/avg/head") is None
    assert objective_value(METRICS, "student/avg/all") is None


def test_a_path_says_under_which_name_its_stage_logs_it():
    assert logged_as("val/student/avg/balanced") == ("student", "val/avg/balanced")
    assert logged_as("val/student_ema/dist/tail") == ("student", "val/ema/dist/tail")
    assert logged_as("val/teacher/all") == ("teacher", "val/all")
    assert logged_as("baseline/cls/all") == ("baseline", "test/cls/all")
