"""The data sets by name: the registry, digits and CIFAR."""

import contextlib
import os
import socket
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deitlt.data.images import ArrayImages, ImageDataset, Subset
from deitlt.errors import ConfigError, DataError, nearest
from deitlt.longtail import subsample
from deitlt.types import Normalisation

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10


@dataclass(frozen=True)
class DataRequest:
    """Which data set is wanted, and where its files are.

    Args:
        root: the folder to look in.
        download: fetch absent files, where the data set can.
        train_csv: list of (path, label) for name='folder'; None reads folders.
        test_csv: the same of the test set.
        train_list: list of the training images, for data sets that are published as lists; None looks for it in
            `root` under its published name.
        test_list: the same of the test set.
        val_list: the same of images that are held out for validation; None where no list tells them.
        path: for name='hf', a folder, or a name on the Hugging Face Hub.
        subset: of those of 'hf' that have several.
        image_column, label_column: of 'hf'; None looks for them.
        dataset: for name='torchvision', the class in torchvision.datasets.
        train_split, test_split: of 'hf' and 'torchvision'; None for the usual ones.
        name: one of `list_datasets()`.
        class_order: 'label', 'count' or 'authors', or a file (see `sort_classes`); None for the data set's own.
        exclude: image files to leave out (those that a check found broken).
        expects: the data set, 'cifar10', that name='folder' has to find in its folder, or refuses it; None for any.
    """

    root: Path = Path("data")
    download: bool = False
    train_csv: Path | None = None
    test_csv: Path | None = None
    train_list: Path | None = None
    test_list: Path | None = None
    val_list: Path | None = None
    path: str | None = None
    subset: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    dataset: str | None = None
    train_split: str | None = None
    test_split: str | None = None
    name: str = "digits"
    class_order: str | None = None
    exclude: Sequence[str] = ()
    expects: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        for key in ("train_csv", "test_csv", "train_list", "test_list", "val_list"):
            given = getattr(self, key)
            object.__setattr__(self, key, Path(given) if given else None)


def title_of(data: Mapping[str, Any]) -> str:
    """What data of this configuration are called: 'cifar10', 'hf beans', 'torchvision SVHN'."""
    name = str(data.get("dataset") or data.get("path") or "")
    return f"{data['name']} {Path(name).name if Path(name).is_absolute() else name}".strip()


@dataclass(frozen=True)
class DataSplits:
    """A data set as it was published, before it is made long-tailed.

    class_names: name of each class id, so its length is the number of classes. labels: the data set's own
    label of each class id, where classes were put in another order; else 0, 1, ... authors_labels: as in
    `DataInfo`. val: images that were published to be held out; None where the training images have to give some.
    """

    train: ImageDataset
    test: ImageDataset
    class_names: tuple[str, ...]
    labels: tuple[int, ...] = ()
    authors_labels: tuple[int, ...] = ()
    val: ImageDataset | None = None

    def __post_init__(self) -> None:
        if not self.labels:
            object.__setattr__(self, "labels", tuple(range(len(self.class_names))))


@dataclass(frozen=True)
class DatasetSpec:
    """All that is known of a data set before its files are opened.

    Args:
        name: what the user types as ``data.name``.
        read: opens the data set.
        image_size: native height and width of an image in pixels; for a data set whose images differ, the
            size at which they are commonly used.
        normalisation: the data set's own statistics.
        group_cuts: the paper's cuts between head, mid and tail; None where the paper has none.
        description: one line for lists.
        class_order: 'label' keeps the data set's class ids, 'count' sorts classes by training images, unless
            the user asks for another order.
        shape: classes, and training images of each, where that is known; (0, 0) where the files tell.
        published: images of the splits 'train', 'val' and 'test' as they were published, and of 'train' at those
            imbalance factors, (split, factor), that the literature has.
    """

    name: str
    read: Callable[[DataRequest], DataSplits]
    image_size: int
    normalisation: Normalisation
    group_cuts: tuple[int, int] | None
    description: str
    class_order: str = "label"
    shape: tuple[int, int] = (0, 0)
    published: Mapping[tuple[str, float | None], int] = field(default_factory=dict)


_SPECS: dict[str, DatasetSpec] = {}


def register_dataset(spec: DatasetSpec) -> None:
    """Makes a data set known under its name.

    Raises:
        ConfigError: another data set has that name.
    """
    if _SPECS.get(spec.name, spec) != spec:
        raise ConfigError(
            f"A data set named {spec.name!r} is registered already; give DatasetSpec(name=...) a name that "
            f"is not one of: {', '.join(list_datasets())}."
        )
    _SPECS[spec.name] = spec


def list_datasets() -> list[str]:
    """The names of all registered data sets, sorted."""
    return sorted(_SPECS)


def get_dataset(name: str) -> DatasetSpec:
    """The data set of that name.

    Raises:
        ConfigError: no data set has that name.
    """
    if name not in _SPECS:
        advice = nearest(
            name, _SPECS, f"type one of {', '.join(sorted(_SPECS))}, or trust=[MODULE] of one of your own."
        )
        raise ConfigError(f"data.name={name} is not a known data set; {advice}")
    return _SPECS[name]


NUM_CLASSES = 10
TEST_IMAGES_PER_CLASS = 50
MAX_INTENSITY = 16  # the images count the inked pixels of 4x4 blocks
MEAN, STD = 0.3053, 0.3759  # of all 1,797 images, for pixels in [0, 1]


def read_digits(request: DataRequest) -> DataSplits:
    """Opens the digits: 8x8 pixels, 50 test images a class, 1,297 images for training.

    The test images are drawn at random, the same ones always: in the order of the file, the last digits
    come from other writers than the first.

    Args:
        request: not looked at, since there is no file.
    """
    from sklearn.datasets import load_digits  # slow to import, and no other data set needs it

    digits = load_digits()
    grey = np.rint(digits.images * (255 / MAX_INTENSITY)).astype(np.uint8)
    everything = ArrayImages(np.repeat(grey[..., None], 3, axis=-1), digits.target)
    test = np.sort(subsample(everything.labels, [TEST_IMAGES_PER_CLASS] * NUM_CLASSES, seed=0))
    train = np.setdiff1d(np.arange(len(everything)), test)
    names = tuple(str(digit) for digit in range(NUM_CLASSES))
    return DataSplits(Subset(everything, train), Subset(everything, test), names)


register_dataset(
    DatasetSpec(
        name="digits",
        read=read_digits,
        image_size=8,
        normalisation=Normalisation(mean=(MEAN, MEAN, MEAN), std=(STD, STD, STD)),
        group_cuts=(3, 7),
        description="1,797 handwritten digits of 8x8 pixels, built in: for demos and tests",
    )
)


CIFAR_NORMALISATION = Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
NETWORK_TIMEOUT = 30.0  # seconds without an answer


def read_cifar(num_classes: int, request: DataRequest) -> DataSplits:
    """Opens CIFAR-10 or CIFAR-100: 50,000 training and 10,000 test images of 32x32 pixels.

    Args:
        num_classes: 10 or 100.
        request: root is the folder that holds torchvision's folder (cifar-10-batches-py or
            cifar-100-python) or archive, or one of the two itself.

    Raises:
        DataError: the files are absent and were not or could not be downloaded, or are damaged.
    """
    from torchvision import datasets  # slow to import, and other data sets do without it

    reader = {10: datasets.CIFAR10, 100: datasets.CIFAR100}[num_classes]
    root = request.root.expanduser()
    root = root.parent if root.name in (reader.base_folder, reader.filename) else root
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
        with tempfile.TemporaryDirectory(dir=existing, prefix=".deitlt-") as work, network_timeout():
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
def network_timeout() -> Iterator[None]:
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


_TAILS = {10: (20_431, 13_996, 12_406), 100: (19_573, 12_608, 10_847)}  # training images at imbalance 10, 50 and 100
for _classes, _cuts in ((10, (3, 7)), (100, (36, 71))):
    register_dataset(
        DatasetSpec(
            name=f"cifar{_classes}",
            read=partial(read_cifar, _classes),
            image_size=32,
            normalisation=CIFAR_NORMALISATION,
            group_cuts=_cuts,
            description=f"CIFAR-{_classes}: 60,000 photographs of 32x32 pixels in {_classes} classes",
            shape=(_classes, 50_000 // _classes),
            published={("train", None): 50_000, ("test", None): 10_000}
            | {("train", factor): n for factor, n in zip((0.1, 0.02, 0.01), _TAILS[_classes], strict=True)},
        )
    )
