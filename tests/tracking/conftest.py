import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that the tests beside can import wandb_records


@pytest.fixture
def own_wandb(tmp_path, monkeypatch):
    """Nothing of W&B's outside the test's folder, no key, and no warning remembered from another test."""
    import wandb

    from deitlt.tracking import failures

    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(failures, "_warned", set())
    wandb.teardown()  # its service has read the environment of the tests before
    yield
    wandb.teardown()
