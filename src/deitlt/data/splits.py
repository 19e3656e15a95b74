"""Splits of a data set: class order, long tail, validation split, and what came out, by which it is known again."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from deitlt.data.datasets import DataSplits
from deitlt.data.images import ImageDataset, Relabelled, Subset, identities
from deitlt.errors import ConfigError, DataError
from deitlt.longtail import by_frequency, class_counts, frequency_groups, subsample
from deitlt.types import DataInfo

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SplitOptions:
    """How a data set is made long-tailed.

    Args:
        imbalance_factor: images of the smallest class / images of the largest, in (0, 1]; None leaves the
            classes as large as they are.
        imbalance_kind: "exp" lets the counts fall from class to class, "step" between the two halves.
        max_count: images of the largest class; None is the size that it has. Without an imbalance factor
            every class is cut to so many images.
        val_fraction: share of each class's training images for a validation split, in [0, 1).
        groups: "paper" cuts classes by place, "shots" by number of images.
        group_cuts: where to cut; None is the data set's own choice under "paper".
        split_seed: seeds the selection of images, below 2**32; 0 selects what the authors' code selects.
    """

    imbalance_factor: float | None = None
    imbalance_kind: Literal["exp", "step"] = "exp"
    max_count: int | None = None
    val_fraction: float = 0.0
    groups: Literal["paper", "shots"] = "paper"
    group_cuts: Sequence[int] | None = None
    split_seed: int = 0


@dataclass(frozen=True)
class LongTailSplits:
    """A long-tailed training set, its validation split if one was asked for, and the test set."""

    train: ImageDataset
    val: ImageDataset | None
    test: ImageDataset
    info: DataInfo


def long_tailed(splits: DataSplits, options: SplitOptions, default_cuts: tuple[int, int] | None) -> LongTailSplits:
    """Makes the training set long-tailed; the test set stays as it is.

    Class c keeps the number of images that its place in the profile asks for or, where it has fewer, all.
    A class gives about `val_fraction` of its images to the validation split: at least one if it has two or
    more, never its last one. Without a share the validation split is the published one, if there is one.

    Args:
        splits: the data set as published.
        options: what to make of it.
        default_cuts: the data set's group cuts, for options without any.

    Raises:
        ConfigError: an option does not fit this data set.
        DataError: there are fewer than two classes, or a class has no training image.
    """
    _require_images(splits)
    train, val = _subsampled(splits, options), splits.val
    if options.val_fraction > 0:
        kept, held_out = _held_out(train.labels, options.val_fraction, options.split_seed)
        train, val = Subset(train, kept), Subset(train, held_out)
    return LongTailSplits(train, val, splits.test, _info(train, splits, options, default_cuts))


def _require_images(splits: DataSplits) -> None:
    if len(splits.class_names) < 2:
        raise DataError(f"The data have {len(splits.class_names)} class, but telling classes apart needs 2 or more.")
    counts = _counts(splits.train, len(splits.class_names))
    assert len(counts) == len(splits.class_names), "a label has no class name"
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        raise DataError(
            f"The class {splits.class_names[empty[0]]!r} has no training image; give it one, or remove the class."
        )


def _subsampled(splits: DataSplits, options: SplitOptions) -> ImageDataset:
    """The training images that the profile keeps."""
    if options.imbalance_factor is None and options.max_count is None:
        return splits.train
    available = _counts(splits.train, len(splits.class_names))
    largest = options.max_count or int(available.max())
    factor = 1.0 if options.imbalance_factor is None else options.imbalance_factor
    asked = class_counts(len(available), largest, factor, options.imbalance_kind)
    counts = np.minimum(asked, available).tolist()
    return Subset(splits.train, subsample(splits.train.labels, counts, options.split_seed))


def _held_out(labels: npt.NDArray[np.int64], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Positions that stay for training and those of the validation split, both ascending."""
    chosen = np.zeros(len(labels), dtype=bool)
    present, counts = np.unique(labels, return_counts=True)
    # Sorted once: a search for each of thousands of classes would take seconds.
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    for label, members in zip(present, by_class, strict=True):
        wanted = np.clip(round(fraction * len(members)), 1, len(members) - 1) if len(members) > 1 else 0
        # A stream for each class: one class's size does not move another class's split.
        stream = np.random.default_rng((seed, int(label)))
        chosen[stream.permutation(members)[:wanted]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _info(train: ImageDataset, splits: DataSplits, options: SplitOptions, cuts: tuple[int, int] | None) -> DataInfo:
    names = splits.class_names
    counts = tuple(_counts(train, len(names)).tolist())
    groups = frequency_groups(counts, options.groups, options.group_cuts or cuts)
    members = {name: tuple(int(c) for c in classes) for name, classes in groups.items() if len(classes)}
    return DataInfo(len(names), counts, names, members, splits.labels, splits.authors_labels)


def _counts(source: ImageDataset, num_classes: int) -> npt.NDArray[np.int64]:
    """Images of each class, [C]."""
    return np.bincount(source.labels, minlength=num_classes)


def which_images(source: ImageDataset, num_classes: int, root: Path) -> list[str]:
    """Of each class how many images a split has and a digest of which, in their order.

    A million files take some seconds: none is looked at, they are known by their names. Those in `root` are named from
    there on, so that it may be moved.

    Args:
        source: the split.
        num_classes: of the data set.
        root: the data's folder.

    Returns:
        'NUMBER DIGEST' of each class.
    """
    below = os.fsencode(root) + b"/"
    by_class = np.split(np.argsort(source.labels, kind="stable"), np.cumsum(_counts(source, num_classes))[:-1])
    names = ([name.removeprefix(below) for name in identities(source, places)] for places in by_class)
    return [f"{len(found)} {hashlib.blake2b(bytes(1).join(found), digest_size=8).hexdigest()}" for found in names]


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
    val = None if splits.val is None else Relabelled(splits.val, places)
    return DataSplits(train, test, names, labels, authors, val)


def _order(splits: DataSplits, order: str) -> Order:
    """The published class of each new id, [C]."""
    num_classes = len(splits.class_names)
    counts = np.bincount(splits.train.labels, minlength=num_classes)
    if order == "count":
        return by_frequency(counts.tolist())
    if order == "authors":
        return authors_order(counts)
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


def authors_order(counts: npt.NDArray[np.integer]) -> Order:
    """Classes sorted by falling count, [C], ties as NumPy's plain quicksort leaves them.

    The authors sort by ``np.argsort(-counts)``, which is not stable: ties depend on the algorithm. NumPy up to 1.24
    takes one introsort on every machine; later versions sort integers by vector instructions where the processor has
    them. Keys of dtype object still take the plain introsort everywhere. A checkpoint that was trained after another
    order shows it by the accuracy of chance, and needs its order in a file.

    Args:
        counts: [C] training images a class.
    """
    return np.argsort((-counts).astype(object), kind="quicksort")
