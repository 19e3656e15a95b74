from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from deitlt.cli import HYDRA_VERBS
from deitlt.config.checks import CHOICES
from deitlt.config.compose import config_dir
from deitlt.config.reference import (
    EXAMPLES,
    all_keys,
    keys_of_group,
    keys_of_verb,
    keys_page,
    verb_configs,
    verb_help,
)
from deitlt.config.reference.verb_help import _COMMON

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def named(keys, name):
    return next(key for key in keys if key.name == name)


def composed(*overrides, name="train"):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def test_every_key_says_what_it_means():
    silent = [key.name for key in all_keys() if not key.meaning]
    assert not silent, f"write a comment behind {', '.join(silent)} in conf/"


def test_the_page_of_keys_is_what_the_configurations_say():
    fresh = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == keys_page()
    assert fresh, "docs/config.md is stale; run: deitlt list keys > docs/config.md"


def test_a_key_has_type_default_and_meaning():
    student = keys_of_group("student")
    epochs = named(student, "student.epochs")
    assert (epochs.type, epochs.default) == ("whole number", str(composed("~experiment").student.epochs))
    assert epochs.meaning == "passes over the training images"
    assert named(student, "student.drw").type == "keys or null"
    assert named(student, "student.gradient_clip").type == "number or null"
    assert named(keys_of_group("trainer"), "trainer.precision").type == " | ".join(CHOICES["trainer.precision"])
    assert named(keys_of_group("teacher/schedule"), "teacher.schedule.lr").default == "as teacher.optimizer.lr"


def test_choices_with_other_defaults_are_named():
    factor = named(keys_of_group("data"), "data.imbalance_factor")
    assert factor.defaults == {"null": (), "0.01": ("cifar10", "cifar100"), "0.05": ("digits",)}
    margin = named(keys_of_group("teacher/loss"), "teacher.loss.max_margin")
    assert margin.defaults == {"0.5": ("ldam",), "0.3": ("ldam_imagenet",)}


def test_a_key_is_explained_by_its_own_file_first():
    output = {verb: named(keys_of_verb(verb), "output").meaning for verb in ("predict", "benchmark", "export")}
    assert len(set(output.values())) == 3
    assert "CSV" in output["predict"]


@pytest.mark.parametrize(
    ("group", "choice"), [("data", "digits"), ("data", "imagenet_lt"), ("student/transforms", "multicrop")]
)
def test_a_default_that_a_choice_is_named_with_is_what_hydra_composes(group, choice):
    config = composed("~experiment", f"{group}={choice}")
    named_so = [(key.name, value) for key in keys_of_group(group) for value, o in key.defaults.items() if choice in o]
    compared = [(name, value) for name, value in named_so if value not in ("required", "its keys")]
    assert compared
    for name, value in compared:
        assert str(OmegaConf.select(config, name)).replace("'", "") == value.replace("null", "None").replace(
            "true", "True"
        ).replace("false", "False")


def test_every_verb_has_a_page_of_help(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert set(EXAMPLES) == set(HYDRA_VERBS)
    for verb, (config_name, what) in HYDRA_VERBS.items():
        shown = verb_help(verb, config_name, what)
        lines = shown.splitlines()
        assert lines[0].startswith(f"deitlt {verb} ")
        assert len(lines) < 110
        assert all(len(line) <= 110 for line in lines[1:])
        assert all(f"  deitlt {command}" in shown for command, _ in EXAMPLES[verb])
        assert all(name in shown for name in _COMMON.get(verb, ()))


def test_the_help_of_benchmark_lists_its_parts():
    from deitlt.commands.benchmark import PARTS

    shown = verb_help("benchmark", *HYDRA_VERBS["benchmark"])
    assert all(f"\n  {part} " in shown for part in PARTS)


COMMANDS = [(verb, command) for verb, rows in EXAMPLES.items() for command, _ in rows]


@pytest.mark.parametrize(("verb", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_every_example_composes(verb, command):
    first, *words = command.split()
    assert first == verb
    overrides = [word if "[" in word else word.partition(",")[0] for word in words if word != "-m"]
    assert composed(*overrides, name=HYDRA_VERBS[verb][0])


def test_every_verbs_file_is_on_the_page():
    assert {config_name for config_name, _ in HYDRA_VERBS.values()} <= set(verb_configs())
