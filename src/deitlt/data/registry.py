"""The data sets by name: what a reader is asked, what it answers, and who is registered."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deitlt.data.sources import ImageSource
from deitlt.errors import ConfigError, nearest
from deitlt.types import Normalisation


@dataclass(frozen=True)
class DataRequest:
    """What the user said about where the data are.

    root: the folder to look in. download: whether a reader may fetch absent files. train_csv, test_csv:
    lists of files and labels, for the data set 'folder'. train_list, test_list: the same for data sets that
    are published as lists; None looks for them under their published names.
    """

    root: Path
    download: bool = False
    train_csv: Path | None = None
    test_csv: Path | None = None
    train_list: Path | None = None
    test_list: Path | None = None


@dataclass(frozen=True)
class DataSplits:
    """A data set as it was published, before it is made long-tailed.

    class_names: name of each class id, so its length is the number of classes. labels: the data set's own
    label of each class id, where classes were put in another order; else 0, 1, ... authors_labels: as in
    `DataInfo`.
    """

    train: ImageSource
    test: ImageSource
    class_names: tuple[str, ...]
    labels: tuple[int, ...] = ()
    authors_labels: tuple[int, ...] = ()

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
    """

    name: str
    read: Callable[[DataRequest], DataSplits]
    image_size: int
    normalisation: Normalisation
    group_cuts: tuple[int, int] | None
    description: str
    class_order: str = "label"


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
        raise ConfigError(f"data.name={name} is not a known data set; {nearest(name, _SPECS)}")
    return _SPECS[name]
