import json

import pytest

from deitlt.errors import ConfigError
from deitlt.tracking import workspace

STALE = "python -m deitlt.tracking.workspace > src/deitlt/tracking/workspace.json"


@pytest.fixture
def workspaces():
    return pytest.importorskip(
        "wandb_workspaces.workspaces", reason="wandb-workspaces (deitlt[wandb]) is not installed"
    )


def panels(spec):
    return {section["name"]: section["panels"] for section in spec["section"]["panelBankConfig"]["sections"]}


def test_the_json_in_the_package_is_what_the_code_builds(workspaces):
    assert workspace.workspace_spec() == workspace.build_spec(), f"type {STALE}"


def test_the_panels_show_what_the_paper_claims():
    found = panels(workspace.workspace_spec())
    tail = next(panel for panel in found["Accuracy by token and group"] if panel["config"]["chartTitle"] == "tail")
    assert {"test/cls/tail", "test/dist/tail", "test/avg/tail", "test/tail"} <= set(tail["config"]["metrics"])
    drawn = json.dumps(found)
    for name in ("train/lr", "train/rho", "speed/images_per_second", "analysis/diversity/disagreement/tail"):
        assert f'"{name}"' in drawn
    assert "analysis/rank/dist/.*" in drawn


def test_what_is_pushed_is_the_json(workspaces, monkeypatch):
    pushed = []

    def upsert(view):
        pushed.append(view)
        return {"upsertView": {"view": {"name": "nw-abc-v", "id": "1"}}}

    monkeypatch.setattr(workspaces.internal, "upsert_view2", upsert)
    monkeypatch.setattr(workspaces.Workspace, "url", property(lambda self: f"https://x/{self.entity}/{self.project}"))
    monkeypatch.setattr(workspace, "why_not_online", lambda: None)
    assert workspace.push_workspace("deitlt", "me") == "https://x/me/deitlt"
    (view,) = pushed
    assert (view.entity, view.project, view.display_name) == ("me", "deitlt", "DeiT-LT")
    sent = json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))
    titles = {name: [panel["config"] for panel in found] for name, found in panels(sent).items()}
    assert titles == {
        name: [panel["config"] for panel in found] for name, found in panels(workspace.workspace_spec()).items()
    }


def test_without_a_network_nothing_is_pushed(workspaces, monkeypatch):
    monkeypatch.setattr(workspace, "why_not_online", lambda: "https://x cannot be reached")
    with pytest.raises(ConfigError, match=r"cannot be pushed: https://x cannot be reached; type deitlt workspace"):
        workspace.push_workspace("deitlt")


def test_a_project_that_there_is_not(workspaces, monkeypatch):
    def refuse(view):
        raise ValueError("project not found\nmore")

    monkeypatch.setattr(workspaces.internal, "upsert_view2", refuse)
    monkeypatch.setattr(workspace, "why_not_online", lambda: None)
    with pytest.raises(ConfigError, match=r"could not be pushed to typo \(project not found\)"):
        workspace.push_workspace("typo", "me")
