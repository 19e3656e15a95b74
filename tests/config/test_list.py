import json

import pytest

from deitlt.cli import main
from deitlt.commands import inspect
from deitlt.commands.list import TOPICS, choices_of_topic, words_of
from deitlt.config import config_dir
from deitlt.config.reference import choices_of, groups_of, keys_page
from deitlt.engine.build import build_data
from deitlt.engine.checks import rehearse
from deitlt.engine.run_folder import RunFolder
from deitlt.engine.stage_config import make_stage


@pytest.fixture
def listed(capsys, monkeypatch):
    """Runs `deitlt list` and answers what it printed."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words):
        assert main(["list", *words]) == 0
        return capsys.readouterr().out

    return run


def test_without_a_topic_there_is_an_overview_of_all(listed):
    shown = listed()
    assert all(f"deitlt list {name} " in shown for name in TOPICS)


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_names_what_to_type_and_what_it_is(name):
    for choice in choices_of_topic(name):
        assert choice.override.endswith(f"={choice.name}")
        assert len(choice.what) > 3


def test_every_choice_of_every_group_is_in_a_list():
    files = {p for p in config_dir().rglob("*/*.yaml") if p.stem != "base" and "hydra" not in p.parts}
    assert {choice.path for group in groups_of() for choice in choices_of_topic(group)} == files


def test_experiments_include_those_of_teachers_alone(listed):
    shown = listed("experiments")
    assert "experiment=digits " in shown
    assert "experiment=teacher/cifar10_ldam_if100 " in shown
    assert "DeiT-LT on long-tailed digits" in shown


def test_a_list_is_narrowed_by_a_part_of_a_name_or_a_pattern(listed):
    assert "digits_paco" in listed("experiments", "paco")
    assert "experiment=digits " not in listed("experiments", "paco")
    assert "experiment=digits " in listed("experiments", "dig*")


def test_models_with_a_pattern_are_timms_too(listed):
    shown = listed("models", "deit3_small_patch16_224")
    assert "student.model.name=deit3_small_patch16_224 method=vit" in shown
    assert "teacher.model.name=resnet26 " in listed("models", "resnet26")


def test_every_choice_among_the_models_is_taken_with_the_words_beside_it(tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(inspect, "main", lambda config: checked.append(check_all(config, RunFolder(tmp_path))))
    words = [words_of(choice).split() for choice in choices_of_topic("models")]
    assert [one for one in words if main(["inspect", *one]) != 0] == []
    assert len(checked) == len(words) > 10


def check_all(config, folder):
    for name in config.stages:
        stage = make_stage(config, folder, name)
        rehearse(stage, build_data(stage).info, name)


def test_a_group_is_a_topic_as_well(listed):
    assert "teacher/schedule=warmup_steps" in listed("teacher/schedule")


def test_keys_are_a_page_or_those_that_begin_as_typed(listed):
    assert listed("keys") == keys_page()
    shown = listed("keys", "student.drw")
    assert "student.drw.start_epoch" in shown
    assert "teacher.drw" not in shown


def test_a_list_is_json_on_request(listed):
    methods = json.loads(listed("methods", "--json"))
    assert methods["method=deit_lt"] == "DeiT-LT: the recipe as it is."
    assert json.loads(listed("keys", "student.epochs", "--json"))["student.epochs"]["type"] == "whole number, 1 or more"
    assert json.loads(listed("--json"))["datasets"] == [choice.name for choice in choices_of("data")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment_s"], "did you mean 'experiments'?"),
        (["zzz"], "type one of data, "),
        (["experiments", "zzz"], "type deitlt list experiments"),
        (["keys", "zzz"], "No key begins with 'zzz'"),
        (["a", "b", "c"], "type deitlt list"),
    ],
)
def test_an_unknown_topic_is_answered_with_one_sentence(words, said, capsys):
    assert main(["list", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1
