import json
import logging
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest

from deitlt.engine.processes import TRIAL_VARIABLE
from deitlt.engine.pruning import build_pruning

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
STUDENT = SimpleNamespace(name="student")


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """A study in which trials reached 50, 60 and 70 after each epoch; sets this process to be its next trial."""
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    for value in (50.0, 60.0, 70.0):
        reached = dict.fromkeys((1, 2, 3), value)
        study.add_trial(optuna.trial.create_trial(value=value, intermediate_values=reached))

    def ask(**options):
        number = study.ask().number
        names = {"stage": "student", "metric": "val/avg/balanced", "storage": storage, "study": "s", "number": number}
        monkeypatch.setenv(TRIAL_VARIABLE, json.dumps(names | {"after_trials": 3, "after_epochs": 1} | options))
        return lambda: optuna.load_study(study_name="s", storage=storage).trials[number]

    return ask


def test_a_trial_below_the_median_is_stopped_and_one_above_it_is_not(trial):
    found = trial()
    judge = build_pruning(STUDENT).judge
    assert not judge(1, 61.0)
    assert not judge(2, 59.0)  # its best so far counts, as Optuna has it
    assert found().intermediate_values == {1: 61.0, 2: 59.0}
    trial()
    assert build_pruning(STUDENT).judge(1, 59.0)


def test_a_trial_is_stopped_neither_in_its_first_epochs_nor_as_one_of_the_first(trial):
    trial(after_epochs=2)
    judge = build_pruning(STUDENT).judge
    assert not judge(1, 1.0)
    assert judge(2, 1.0)
    trial(after_trials=4)
    assert not build_pruning(STUDENT).judge(1, 1.0)


def test_a_study_that_is_busy_costs_a_look_and_not_the_trial(trial, tmp_path, caplog):
    found = trial(storage=f"sqlite:///{tmp_path}/study.db?timeout=0.05")
    judge = build_pruning(STUDENT).judge
    with closing(sqlite3.connect(tmp_path / "study.db")) as other, caplog.at_level(logging.WARNING, "deitlt"):
        other.execute("BEGIN EXCLUSIVE")
        assert judge(1, 1.0) is False
    assert "could not be asked after epoch 1" in caplog.text
    assert "database is locked" in caplog.text
    assert judge(2, 1.0)
    assert found().intermediate_values == {2: 1.0}


def test_only_the_stage_that_the_search_judges_is_watched_and_only_where_it_prunes(trial, monkeypatch):
    trial()
    assert build_pruning(SimpleNamespace(name="teacher")) is None
    trial(after_trials=None)
    assert build_pruning(STUDENT) is None
    monkeypatch.delenv(TRIAL_VARIABLE)
    assert build_pruning(STUDENT) is None
