import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

MISSING = ("optuna", "joblib", "submitit_slurm")


@pytest.fixture
def bare(monkeypatch):
    """Hydra as it is where its plugins are not installed."""
    Plugins.instance()  # what is installed registers itself
    repo = ConfigStore.instance().repo["hydra"]
    for group in ("sweeper", "launcher"):
        kept = {name: node for name, node in repo[group].items() if not name.startswith(MISSING)}
        monkeypatch.setitem(repo, group, kept)


@pytest.mark.parametrize("choice", ["hydra/sweeper=optuna", "hydra/launcher=joblib"])
def test_a_plugin_that_is_not_installed_says_how_to_get_it(bare, complain, choice):
    said = complain("train", "-m", "seed=0,1", choice, output=None)
    assert said.endswith("is not installed; type pip install 'deitlt[sweep]'.")
