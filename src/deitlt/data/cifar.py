"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), read by torchvision."""

import contextlib
import os
import socket
import tarfile
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deitlt.data.registry import DataRequest, DatasetSpec, DataSplits, register_dataset
from deitlt.data.sources import ArrayImages
from deitlt.errors import DataError
from deitlt.types import Normalisation

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

CIFAR_NORMALISATION = Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
NETWORK_TIMEOUT = 30.0  # seconds without an answer


def read_cifar(num_classes: int, request: DataRequest) -> DataSplits:
    """Opens CIFAR-10 or CIFAR-100: 50,000 training and 10,000 test images of 32x32 pixels.

    Args:
        num_classes: 10 or 100.
        request: root is the folder that holds torchvision's folder (cifar-10-batches-py or
            cifar-100-python), or that folder itself.

    Raises:
        DataError: the files are absent and were not or could not be downloaded, or are damaged.
    """
    from torchvision import datasets  # slow to import, and other data sets do without it

    reader = {10: datasets.CIFAR10, 100: datasets.CIFAR100}[num_classes]
    root = request.root.expanduser()
    root = root.parent if root.name == reader.base_folder else root
    if not (root / reader.base_folder).exists():
        _download(reader, root, request.download)
    try:
        train, test = (reader(root, train=train) for train in (True, False))
    except (RuntimeError, OSError) as error:
        raise DataError(_damaged(reader, root)) from error
    return DataSplits(
        ArrayImages(train.data, train.targets), ArrayImages(test.data, test.targets), tuple(train.classes)
    )


def _download(reader: "type[CIFAR10]", root: Path, allowed: bool) -> None:
    """Fetches the data set's folder into `root`, whole or not at all.

    Raises:
        DataError: a download is not allowed, or failed.
    """
    if not allowed:
        raise DataError(_absent(reader, root, "type data.download=true"))
    # Beside the target, so that the folder can be moved into place; if root does not exist, nothing of it
    # is made before the files are complete.
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".deitlt-") as work, _network_timeout():
            _unpack(reader, root, Path(work))
            root.mkdir(parents=True, exist_ok=True)
            os.replace(Path(work) / reader.base_folder, root / reader.base_folder)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        reason = f"the download failed: {error}".rstrip(".")
        # `from None`: forty lines of urllib would hide the one sentence.
        raise DataError(_absent(reader, root, f"try data.download=true again ({reason})")) from None


def _unpack(reader: "type[CIFAR10]", root: Path, work: Path) -> None:
    """Unpacks the archive into `work`: the one that lies in `root`, else the one on the network."""
    from torchvision.datasets.utils import extract_archive

    archive = root / reader.filename
    if archive.exists():
        extract_archive(str(archive), str(work))
    else:
        reader(work, download=True)


@contextlib.contextmanager
def _network_timeout() -> Iterator[None]:
    """Lets a network that swallows packets fail after a while: urllib would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _absent(reader: "type[CIFAR10]", root: Path, advice: str) -> str:
    return (
        f"{reader.__name__} is not in {root}: put the folder {reader.base_folder} there, type "
        f"data.root=FOLDER with the folder that holds {reader.base_folder}, or {advice}."
    )


def _damaged(reader: "type[CIFAR10]", root: Path) -> str:
    return (
        f"{root / reader.base_folder} is incomplete or damaged: delete it and type data.download=true, or "
        f"type data.root=FOLDER with a folder that holds a whole {reader.base_folder}."
    )


for _classes, _cuts in ((10, (3, 7)), (100, (36, 71))):
    register_dataset(
        DatasetSpec(
            name=f"cifar{_classes}",
            read=partial(read_cifar, _classes),
            image_size=32,
            normalisation=CIFAR_NORMALISATION,
            group_cuts=_cuts,
            description=f"CIFAR-{_classes}: 60,000 photographs of 32x32 pixels in {_classes} classes",
        )
    )
