import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # same_runs
sys.path.insert(0, str(Path(__file__).parents[1] / "tracking"))  # wandb_records, the reader of offline runs
sys.path.insert(0, str(Path(__file__).parents[1] / "checkpoints"))  # external_files, files of others


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Each test works in its own folder, as outputs/ and multirun/ are made where one stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEITLT_DEBUG", raising=False)
