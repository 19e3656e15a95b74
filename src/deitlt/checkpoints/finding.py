"""Where a checkpoint lies, if a user names the run instead of the file."""

from pathlib import Path

from deitlt.checkpoints.fetching import WANDB, fetch_checkpoint
from deitlt.errors import CheckpointError

NAMES = ("best.ckpt", "last.ckpt")  # the chosen epoch, where a protocol chose one


def find_checkpoint(path: str | Path, stages: tuple[str, ...]) -> Path:
    """The file itself, or in a run's or stage's folder the checkpoint of the first of `stages` that has one.

    A name that begins with 'wandb:' is an artifact's, and is fetched.

    Raises:
        CheckpointError: if the path does not exist or holds no such checkpoint, or the artifact cannot be had.
    """
    if str(path).startswith(WANDB):
        return fetch_checkpoint(str(path))
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint {path}; type the path of a .ckpt file, or of a run's folder.")
    folders = [path / stage for stage in stages] + [path]
    for folder in folders:
        for name in NAMES:
            if (folder / name).is_file():
                return folder / name
    wanted = " or ".join(str(path / stage / "last.ckpt") for stage in stages)
    raise CheckpointError(f"The folder {path} holds no checkpoint; there should be {wanted}.")
