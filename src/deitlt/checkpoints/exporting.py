"""A trained network as files that other programs read: all of them, or none."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from deitlt.checkpoints.card import ModelCard
from deitlt.checkpoints.export_formats import FORMATS, Exported
from deitlt.checkpoints.export_onnx import require_onnx
from deitlt.checkpoints.export_paco import as_plain_teacher
from deitlt.errors import ConfigError, nearest
from deitlt.models import PaCoNetwork

NAME = "model"  # of every exported file, before its ending


def export_files(formats: Sequence[str], folder: Path) -> dict[str, Path]:
    """Where each format's file will lie, once it is known that it can.

    Raises:
        ConfigError: if a format is unknown, none is named, a package is missing, or something lies there.
    """
    if not formats:
        raise ConfigError(f"formats=[] names no format; type formats=[{','.join(FORMATS)}], or some of them.")
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"formats=[{name}] is no format; {nearest(name, FORMATS)}")
    if "onnx" in formats:
        require_onnx()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output={folder} is a file; type output=FOLDER with a new or empty folder.")
    files = {name: folder / f"{NAME}.{FORMATS[name][0]}" for name in formats}
    if there := [path for path in files.values() if path.exists()]:
        raise ConfigError(f"{there[0]} exists already; delete it, or type output=FOLDER with another folder.")
    return files


def export(network: nn.Module, card: ModelCard, formats: Sequence[str], folder: Path) -> list[Path]:
    """Write a network in evaluation mode to `folder`, in each format; graphs are compared with it.

    Args:
        network: a student or teacher, on the CPU.
        card: what its checkpoint says of it.
        formats: keys of `FORMATS`.
        folder: made if it is not there.

    Returns:
        Every file that was written, sorted; an ONNX graph over 2 GB has its weights in a second one.

    Raises:
        ConfigError: as `export_files`.
        CheckpointError: if a file answers otherwise than the network; then no file is kept.
    """
    files = export_files(formats, folder)
    if isinstance(network, PaCoNetwork):
        network, card = as_plain_teacher(network, card)
    exported = Exported(network, card)
    with _draft(folder) as draft:
        for name, path in files.items():
            FORMATS[name][1](exported, draft / path.name)
        written = sorted(path.name for path in draft.iterdir())
        for file in written:
            os.replace(draft / file, folder / file)
    return [folder / file for file in written]


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A folder beside the files' places, gone at the end; `folder` goes, too, if it was made and stays empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    draft = folder / f".export.{os.getpid()}"
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        for path in made:  # the deepest first
            if not any(path.iterdir()):
                path.rmdir()
