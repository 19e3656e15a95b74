"""Commands in the documentation are ones that there are, and its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from deitlt.cli import HYDRA_VERBS, PLAIN_VERBS
from deitlt.config.compose import config_dir

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")] if path.name != "config.md")


def commands(page):
    """The words of each `$ deitlt ...`, without comments; long lines are joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^\$ deitlt (.*)$", text, re.MULTILINE)
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def first_value(word):
    """The override with the first of the values that it sweeps."""
    key, equals, value = word.partition("=")
    return word if "[" in value or "(" in value else f"{key}{equals}{value.partition(',')[0]}"


@pytest.mark.slow  # a composition takes a third of a second
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_composes(page):
    for verb, *words in commands(page):
        assert verb in HYDRA_VERBS or verb in PLAIN_VERBS or verb == "--help", verb
        if verb not in HYDRA_VERBS:
            continue
        overrides = [first_value(word) for word in words if "=" in word and not word.startswith("-")]
        kept = [word for word in overrides if not word.startswith("hydra")]  # launchers are extras
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            assert compose(HYDRA_VERBS[verb][0], overrides=kept), (page.name, verb, words)


def test_a_page_has_commands():
    assert any(words == ["export", "checkpoint=run", "output=model"] for words in commands(ROOT / "docs/own_data.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r"`(docs/[\w./]+\.\w+)`", text)
    local = [name for name in named if "://" not in name]
    for name in local:
        assert ((ROOT if name.startswith("docs/") else page.parent) / name).exists(), name
