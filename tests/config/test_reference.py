from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from deitlt.cli import HYDRA_VERBS
from deitlt.config import config_dir
from deitlt.config.reference import (
    COMMON,
    all_keys,
    choices_of,
    groups_of,
    keys_of_group,
    keys_of_verb,
    keys_page,
    usual_choice,
    verb_help,
)
from deitlt.config.verbs import EXAMPLES, SCHEMAS

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def named(keys, name):
    return next(one for one in keys if one.name == name)


def composed(*overrides, name="train"):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def test_the_page_of_keys_is_what_the_schema_and_the_files_say():
    fresh = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == keys_page()
    assert fresh, "docs/config.md is stale; run: deitlt list keys > docs/config.md"


@pytest.mark.parametrize(
    ("group", "name", "kind", "default"),
    [
        ("student", "student.epochs", "whole number, 1 or more", "1200"),
        ("student", "student.drw", "keys or null", "its keys"),
        ("student", "student.gradient_clip", "number, 0 or more or null", "null"),
        ("student/model", "student.model.patch_size", "whole number of pixels, 1 or more", "16"),
        ("trainer", "trainer.precision", "auto | 32-true | bf16-mixed | 16-mixed", "auto"),
        ("trainer", "trainer.devices", "whole number or auto, 1 or more", "1"),
        ("teacher/schedule", "teacher.schedule.lr", "number, 0 or more", "${..optimizer.lr}"),
        ("logger", "logger.wandb.mode", "online | offline | disabled or null", "null"),
    ],
)
def test_a_key_has_type_range_unit_and_default(group, name, kind, default):
    one = named(keys_of_group(group), name)
    assert (one.key.kind, one.default) == (kind, default)


def test_choices_with_other_defaults_are_named():
    factor = named(keys_of_group("data"), "data.imbalance_factor")
    assert factor.defaults["0.01"] == ("cifar10", "cifar100")
    assert next(iter(factor.defaults)) == "0.05"  # that of digits, which train begins with
    margin = named(keys_of_group("teacher/loss"), "teacher.loss.max_margin")
    assert margin.defaults == {"0.5": ("ldam",), "0.3": ("ldam_imagenet",)}


ALONE = ("data", "trainer", "teacher/model", "student/optimizer")  # no other group's files change their keys


@pytest.mark.parametrize("i", range(max(len(choices_of(group)) for group in ALONE)))
def test_the_defaults_of_every_choice_are_what_hydra_composes(i):
    chosen = {group: choices_of(group)[i % len(choices_of(group))].name for group in ALONE}
    config = composed("~experiment", *(f"{group}={name}" for group, name in chosen.items()))
    for one in (one for group in ALONE for one in keys_of_group(group)):
        name = next(name for group, name in chosen.items() if one.name.startswith(f"{group.replace('/', '.')}."))
        value = next((value for value, names in one.defaults.items() if name in names), None)
        if value is not None and value not in ("required", "its keys") and "$" not in value:
            assert OmegaConf.select(config, one.name) == OmegaConf.from_dotlist([f"it={value}"]).it


def test_the_usual_choices_are_those_that_train_begins_with():
    assert [usual_choice(group) for group in ("data", "student", "student/loss", "teacher/sam")] == [
        *("digits", "deit", "cross_entropy", "constant")
    ]


def test_every_group_is_a_folder_and_every_folder_a_group():
    folders = {path.parent.relative_to(config_dir()).as_posix() for path in config_dir().glob("*/**/*.yaml")}
    assert set(groups_of()) == folders - {"experiment/teacher", "hydra/sweeper"}


def test_a_verbs_own_key_says_what_it_means_there():
    output = {verb: named(keys_of_verb(verb), "output").key.meaning for verb in ("predict", "benchmark", "export")}
    assert len(set(output.values())) == 3
    assert len(all_keys()) > 200


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
        assert all(name in shown for name in COMMON.get(verb, ()))


def test_every_verbs_file_has_a_schema():
    assert {config_name for config_name, _ in HYDRA_VERBS.values()} == set(SCHEMAS)
