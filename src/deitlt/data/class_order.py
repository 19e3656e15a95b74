"""Which class gets which id: the data set's own label, or its place among classes sorted by training images."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from deitlt.data.authors_order import quicksort_order
from deitlt.data.registry import DataSplits
from deitlt.data.sources import Relabelled
from deitlt.errors import ConfigError, DataError
from deitlt.longtail import by_frequency

CLASS_ORDERS = ("label", "count", "authors")
Order = npt.NDArray[np.int64]


def sort_classes(splits: DataSplits, order: str) -> DataSplits:
    """Gives the classes new ids, in the training and the test set alike, and their names with them.

    It is done before a data set is made long-tailed and before anything is left out of it, so that ids
    depend on the published data alone.

    Args:
        splits: the data set as published.
        order: 'label' leaves it so. 'count' sorts the classes by falling number of training images, stable
            among ties. 'authors' does so with the ties of the authors' code (see `quicksort_order`).
            Otherwise a file that holds every label once, in the order that is wanted.

    Returns:
        The data set whose `labels` hold the published label of each class id, and `authors_labels` those in
        the order of 'authors', in which the authors' networks answer.

    Raises:
        ConfigError: the order is none of these.
        DataError: the file does not hold every label once.
    """
    if order == "label":
        return splits
    by = _order(splits, order)
    places = np.empty_like(by)
    places[by] = np.arange(len(by))
    names = tuple(splits.class_names[c] for c in by)
    labels, authors = (tuple(splits.labels[c] for c in ids) for ids in (by, _order(splits, "authors")))
    train, test = (Relabelled(source, places) for source in (splits.train, splits.test))
    return DataSplits(train, test, names, labels, authors)


def _order(splits: DataSplits, order: str) -> Order:
    """The published class of each new id, [C]."""
    num_classes = len(splits.class_names)
    counts = np.bincount(splits.train.labels, minlength=num_classes)
    if order == "count":
        return by_frequency(counts.tolist())
    if order == "authors":
        return quicksort_order((-counts).tolist())
    return _read_order(Path(order).expanduser(), num_classes)


def _read_order(file: Path, num_classes: int) -> Order:
    try:
        words = file.read_text().split()
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"data.class_order={_as_typed(file)} is none of {', '.join(CLASS_ORDERS)}, nor a file that can be read; "
            "type data.class_order=count, say."
        ) from error
    labels = [int(word) if word.isascii() and word.isdigit() else -1 for word in words]
    if sorted(labels) != list(range(num_classes)):
        raise DataError(
            f"data.class_order={file} must hold each label 0 to {num_classes - 1} once, one a line, and it has "
            f"{len(words)} words; mend it, or type data.class_order=count."
        )
    return np.array(labels, dtype=np.int64)


def _as_typed(file: Path) -> Path:
    """The name from the working folder on, where a run's command has put that before it."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file
