"""Where a checkpoint lies, if a user names the run instead of the file."""

from pathlib import Path

from deitlt.checkpoints.fetching import WANDB, fetch_checkpoint
from deitlt.errors import CheckpointError

NAMES = ("best.ckpt", "last.ckpt")  # the chosen epoch, where a protocol chose one


def find_checkpoint(path: str | Path, stages: tuple[str, ...], key: str | None = None) -> Path:
    """The file itself, or in a run's or stage's folder the checkpoint of the first of `stages` that has one.

    A name that begins with 'wandb:' is an artifact's, and is fetched.

    Args:
        path: the file or folder.
        stages: names of a run's folders, the first choice first.
        key: what a user types to choose the stage, where there is such a key beside 'checkpoint'.

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
    raise CheckpointError(_absent(path, stages, key))


def _absent(path: Path, stages: tuple[str, ...], key: str | None) -> str:
    """What to type where a folder is no run's, or a run's without these stages."""
    held = sorted(folder.name for folder in path.iterdir() if any((folder / name).is_file() for name in NAMES))
    if held:
        advice = f"type {' or '.join(f'{key}={stage}' for stage in held)}" if key else "type another run's folder"
        return f"{path} has no {' or '.join(stages)}, but {' and '.join(held)}; {advice}."
    wanted = " or ".join(str(path / stage / "last.ckpt") for stage in stages)
    advice = "type checkpoint=RUN with a folder that deitlt train wrote" if key else f"there should be {wanted}"
    return f"The folder {path} holds no checkpoint; {advice}."
