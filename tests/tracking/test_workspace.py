import json
from types import SimpleNamespace

import pytest
import wandb

import deitlt.tracking
from deitlt.cli import main
from deitlt.commands.workspace import push_workspace, workspace_json
from deitlt.errors import ConfigError


@pytest.fixture
def workspaces(monkeypatch):
    found = pytest.importorskip(
        "wandb_workspaces.workspaces", reason="wandb-workspaces (deitlt[wandb]) is not installed"
    )
    place = SimpleNamespace(entity="me", url="https://x/me/deitlt/workspace")
    api = SimpleNamespace(default_entity="me", project=lambda name, entity: place)
    monkeypatch.setattr(wandb, "Api", lambda: api)
    monkeypatch.setattr(deitlt.tracking, "why_not_online", lambda: None)
    return found


def panels(spec):
    return {section["name"]: section["panels"] for section in spec["section"]["panelBankConfig"]["sections"]}


def test_the_panels_show_what_the_paper_claims():
    found = panels(json.loads(workspace_json()))
    tail = next(panel for panel in found["Accuracy by token and group"] if panel["config"]["chartTitle"] == "tail")
    assert {"test/cls/tail", "test/dist/tail", "test/avg/tail", "test/tail"} <= set(tail["config"]["metrics"])
    drawn = json.dumps(found)
    for name in ("train/lr", "train/rho", "speed/images_per_second", "analysis/diversity/disagreement/tail"):
        assert f'"{name}"' in drawn
    assert "analysis/rank/dist/.*" in drawn


def test_what_is_pushed_is_the_json(workspaces, monkeypatch):
    pushed = []
    monkeypatch.setattr(workspaces.internal, "upsert_view2", pushed.append)
    address = push_workspace("deitlt")
    (view,) = pushed
    assert (view.entity, view.project, view.display_name) == ("me", "deitlt", "DeiT-LT")
    assert address == f"https://x/me/deitlt/workspace?nw={view.name.removeprefix('nw-').removesuffix('-v')}"
    sent = json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))
    titles = {name: [panel["config"] for panel in found] for name, found in panels(sent).items()}
    expected = panels(json.loads(workspace_json()))
    assert titles == {name: [panel["config"] for panel in found] for name, found in expected.items()}


def test_without_a_network_nothing_is_pushed(workspaces, monkeypatch):
    monkeypatch.setattr(deitlt.tracking, "why_not_online", lambda: "https://x cannot be reached")
    with pytest.raises(ConfigError, match=r"cannot be pushed: https://x cannot be reached; type deitlt workspace"):
        push_workspace("deitlt")


def test_a_project_that_there_is_not(workspaces, monkeypatch):
    def refuse(view):
        raise ValueError("project not found\nmore")

    monkeypatch.setattr(workspaces.internal, "upsert_view2", refuse)
    with pytest.raises(ConfigError, match=r"could not be pushed to typo \(project not found\)"):
        push_workspace("typo", "me")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "deitlt workspace needs a project"),
        (("a/b/c",), "'a/b/c' names no project of W&B"),
        (("--jsn",), "unrecognized arguments: --jsn"),
    ],
)
def test_a_workspace_that_cannot_be_pushed_is_one_sentence(words, said, capfd):
    assert main(["workspace", *words]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert said in line
    assert "type deitlt workspace [ENTITY/]PROJECT" in line


def test_the_workspace_can_be_printed(capfd):
    assert main(["workspace", "--json"]) == 0
    assert capfd.readouterr().out == workspace_json()
