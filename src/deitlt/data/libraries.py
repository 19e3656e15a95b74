"""Data sets of other libraries: those of Hugging Face's `datasets` that have images and classes, and torchvision's."""

import inspect
import io
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deitlt.config.checks import missing
from deitlt.data.datasets import DataRequest, DatasetSpec, DataSplits, network_timeout, register_dataset
from deitlt.data.images import ArrayImages, EncodedImages, FileImages, ImageDataset
from deitlt.errors import ConfigError, DataError, nearest
from deitlt.transforms import IMAGENET

if TYPE_CHECKING:
    from datasets import Dataset, Features

TEST_SPLITS = ("test", "validation", "valid", "val")  # the first that is there is tested on
LABEL_COLUMNS = ("label", "labels")  # are taken for classes, where no column says that it holds such
LABEL_TYPES = ("string", "large_string", "int", "uint", "bool")  # what the types of other classes begin with
IN_MEMORY = 2**31  # bytes up to which images of one size are held as arrays
Make = Callable[[Sequence[int]], ImageDataset]  # class ids, [N] -> the images


def read_hf(request: DataRequest) -> DataSplits:
    """Open a data set of Hugging Face's: a folder, or a name on its hub, whose files are fetched into its cache.

    The images are in a column of the feature Image, the classes in one of ClassLabel, unless the request names columns.
    Of text and whole numbers the classes are the training split's values, sorted. No code of a data set is run:
    `datasets` runs none from its version 4 on.

    Args:
        request: path, and subset, columns and splits where the user named them.

    Raises:
        ConfigError: `datasets` is not installed, or what was named is not there.
        DataError: the data cannot be had, or have no such column, split or class.
    """
    if request.path is None:
        raise ConfigError(missing("data.path"))
    try:
        from datasets import ClassLabel  # slow to import, and an extra
    except ImportError as error:
        raise ConfigError(
            "data=hf needs Hugging Face's datasets, which are not installed; type pip install 'deitlt[hf]'."
        ) from error
    found = _fetched(request.path, request.subset)
    splits = _split_names(request, found)
    image, label = _columns(request, found, *splits)
    told = found[splits[0]].features[label]
    values = [found[name].select_columns([label]).with_format("arrow")[:][label].to_pylist() for name in splits]
    present = sorted({value for value in values[0] if value is not None})
    own = range(told.num_classes) if isinstance(told, ClassLabel) else present
    names = tuple(told.names) if isinstance(told, ClassLabel) else tuple(map(str, present))
    train, test = (
        _stored(request, found[split], split, image, _class_ids(labels, own, f"{request.path} {split}"))
        for split, labels in zip(splits, values, strict=True)
    )
    return DataSplits(train, test, names, () if any(isinstance(one, str) for one in own) else tuple(map(int, own)))


def _fetched(path: str, subset: str | None) -> Mapping[str, "Dataset"]:
    """The splits of a data set by their names."""
    import datasets

    folder = Path(path).expanduser()
    saved = (datasets.config.DATASETDICT_JSON_FILENAME, datasets.config.DATASET_STATE_JSON_FILENAME)
    try:
        if any((folder / name).is_file() for name in saved):
            loaded = datasets.load_from_disk(str(folder))
        else:
            loaded = datasets.load_dataset(str(folder) if folder.is_dir() else path, subset)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise DataError(
            f"data.path={path} is no folder, nor a data set that the Hugging Face Hub shows you; mend it, or log in by "
            "hf auth login where it is a private or gated one."
        ) from error
    except Exception as error:  # of the library, of what it fetches by, and of each kind of file
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            _refuse_subset(path, subset)
        reason = "cannot be read" if folder.is_dir() else "is no folder, and cannot be had from the Hugging Face Hub"
        raise DataError(
            f"data.path={path} {reason} ({_said(error)}); type data.path=FOLDER with a folder of images in folders "
            "train/CLASS and test/CLASS, of Parquet files, or one that save_to_disk wrote, or where there is a network "
            "data.path=USER/NAME."
        ) from error
    return loaded if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}


def _refuse_subset(path: str, subset: str | None) -> None:
    """Raise ConfigError where a data set has several subsets, and not the one that was named."""
    import datasets

    try:
        names = datasets.get_dataset_config_names(path)
    except Exception:  # as before, which tells more
        return
    if subset not in names and (subset is not None or len(names) > 1):
        has = "several subsets" if subset is None else f"no subset {subset!r}"
        raise ConfigError(f"data.path={path} has {has}; type data.subset=NAME, one of {', '.join(names)}.")


def _split_names(request: DataRequest, found: Mapping[str, Any]) -> tuple[str, str]:
    """The splits to train and to test on."""
    train = request.train_split or "train"
    test = request.test_split or next((name for name in TEST_SPLITS if name in found), "test")
    for key, name in (("train", train), ("test", test)):
        if name not in found:
            two = "make two of it by train_test_split and save_to_disk of datasets, and type data.path=FOLDER"
            advice = two if len(found) == 1 else f"type data.{key}_split=NAME"
            raise DataError(f"data.path={request.path} has no split {name!r}, but {', '.join(found)}; {advice}.")
    if train == test:
        raise ConfigError(f"data.train_split={train} is the split to test on, too; type data.test_split=NAME.")
    return train, test


def _columns(request: DataRequest, found: Mapping[str, "Dataset"], train: str, test: str) -> tuple[str, str]:
    """The columns of the images and of the classes, which both splits have."""
    from datasets import ClassLabel, Image

    features = found[train].features
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    usual = [name for name in LABEL_COLUMNS if name in features and _holds_classes(features[name])]
    image = _column(request, "image", request.image_column, images, features)
    label = _column(request, "label", request.label_column, classes or usual[:1], features)
    if not _holds_classes(features[label]):
        raise DataError(
            f"The column {label!r} of data.path={request.path} is of {_kind(features[label])}, and classes are text or "
            f"whole numbers; type data.label_column=NAME ({_kinds(features)})."
        )
    for name in (image, label):
        if found[test].features.get(name) != features[name]:
            raise DataError(
                f"The split {test!r} of data.path={request.path} has no column {name!r} like that of {train!r}; type "
                f"data.test_split=NAME with another split ({', '.join(found)})."
            )
    return image, label


def _column(request: DataRequest, key: str, given: str | None, found: Sequence[str], features: "Features") -> str:
    """The column that was named, else the only one that was found."""
    if given is not None and given not in features:
        raise ConfigError(
            f"data.{key}_column={given} is no column of data.path={request.path}; {nearest(given, features)}"
        )
    if given is None and len(found) != 1:
        has = f"several {key} columns" if found else f"no column that says that it holds {key}s"
        raise DataError(f"data.path={request.path} has {has} ({_kinds(features)}); type data.{key}_column=NAME.")
    return given or found[0]


def _holds_classes(feature: object) -> bool:
    return str(getattr(feature, "dtype", "")).startswith(LABEL_TYPES)


def _kind(feature: object) -> str:
    dtype = str(getattr(feature, "dtype", ""))
    return dtype if type(feature).__name__ == "Value" else type(feature).__name__


def _kinds(features: "Features") -> str:
    return ", ".join(f"{name}: {_kind(feature)}" for name, feature in features.items())


def _class_ids(values: Sequence[Any], own: Sequence[Any], where: str) -> list[int]:
    """The class of each image, [N], by its label.

    Args:
        values: [N] labels.
        own: [C] the label of each class.
        where: the data set and split, for errors.
    """
    ids = {value: i for i, value in enumerate(own)}
    for row, value in enumerate(values):
        if value not in ids:
            has = "no label" if value in (None, -1) else f"the label {value!r}, which no class has"
            raise DataError(
                f"Image {row} of {where} has {has}; type data.test_split=NAME with another split, or mend the data."
            )
    return [ids[value] for value in values]


@dataclass(frozen=True)
class _Cells:
    """The images of a column of Hugging Face's, as files would hold them."""

    rows: "Dataset"
    column: str

    def __call__(self, index: int) -> bytes:
        cell = self.rows[index][self.column] or {}
        return cell.get("bytes") or (Path(cell["path"]).read_bytes() if cell.get("path") else b"")


def _stored(request: DataRequest, rows: "Dataset", split: str, column: str, labels: Sequence[int]) -> ImageDataset:
    """The images of a column: files where the library kept them, else what lies in its own files."""
    import pyarrow.compute as pc
    from datasets import Image

    try:
        encoded = rows.select_columns([column]).cast_column(column, Image(decode=False))
    except Exception as error:  # Arrow's, of any kind of column
        raise DataError(
            f"The column {column!r} of data.path={request.path} holds no images, but {_kind(rows.features[column])}; "
            f"type data.image_column=NAME ({_kinds(rows.features)})."
        ) from error
    cells = encoded.with_format("arrow")[:][column]
    inside, paths = (pc.struct_field(cells, name) for name in ("bytes", "path"))
    if inside.null_count == len(labels) and paths.null_count == 0:
        return FileImages(paths.to_pylist(), labels)
    sizes = pc.fill_null(pc.binary_length(inside), 0).to_numpy()
    return EncodedImages(_Cells(encoded, column), labels, sizes, f"{request.path} {split}")


def read_torchvision(request: DataRequest) -> DataSplits:
    """Open a classification set of torchvision's by its name, as torchvision reads it.

    Images that are files stay there. Of others those of one size are held in memory, if they take at most `IN_MEMORY`.

    Args:
        request: dataset, root, download, and splits where the user named them.

    Raises:
        ConfigError: there is no such set.
        DataError: its files are absent or damaged and could not be fetched, or it has no classes.
    """
    if request.dataset is None:
        raise ConfigError(missing("data.dataset"))
    kinds, name = classification_sets(), request.dataset
    if name.lower() not in kinds:
        raise ConfigError(
            f"data.dataset={name} is no classification set of torchvision's that has a training and a test split; "
            f"{nearest(name, (kind.__name__ for kind in kinds.values()))}"
        )
    kind, root = kinds[name.lower()], request.root.expanduser()
    train, test = (_contents(kind, root, request.download, *choices) for choices in _choices(kind, request))
    if train.classes != test.classes:
        raise DataError(
            f"The training and the test split of {kind.__name__} in {root} have other classes; give both the same."
        )
    own = range(len(train.classes)) if train.classes else sorted({v for v in train.labels if v is not None})
    trained, tested = (split.make(_class_ids(split.labels, own, split.name)) for split in (train, test))
    return DataSplits(trained, tested, train.classes or tuple(map(str, own)), tuple(own))


@lru_cache(maxsize=1)
def classification_sets() -> dict[str, type]:
    """torchvision's data sets that take a split, or `train`, and transform targets, by their names in small letters."""
    from torchvision import datasets

    found = {}
    for kind in vars(datasets).values():
        if inspect.isclass(kind) and issubclass(kind, datasets.VisionDataset):
            takes = _arguments(kind)
            needed = [name for name, default in takes.items() if default is inspect.Parameter.empty]
            is_split = "train" in takes or isinstance(takes.get("split"), str)
            if "target_transform" in takes and is_split and needed == ["root"]:
                found[kind.__name__.lower()] = kind
    return found


def _arguments(kind: type) -> dict[str, Any]:
    """What a class's constructor takes, with its defaults; where it passes others on, also what its base's takes."""
    found: dict[str, Any] = {}
    for one in kind.__mro__:
        if "__init__" in vars(one):
            _, *takes = inspect.signature(vars(one)["__init__"]).parameters.values()
            named = {p.name: p.default for p in takes if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
            found = {**named, **found}
            if all(p.kind is not p.VAR_KEYWORD for p in takes):
                break
    return found


def _choices(kind: type, request: DataRequest) -> tuple[tuple[tuple[str, Hashable], ...], ...]:
    """The constructor's arguments that may name the training split, and those that may name the test split."""
    takes = _arguments(kind)
    given = {key: name for key in ("train", "test") if (name := getattr(request, f"{key}_split"))}
    if "split" not in takes:
        if given:
            key = next(iter(given))
            raise ConfigError(
                f"data.{key}_split={given[key]}: {kind.__name__} has a training and a test split, which are not named; "
                f"type data.{key}_split=null."
            )
        return (("train", True),), (("train", False),)
    usual = takes["split"] if takes["split"].startswith("train") else "train"
    train, tests = given.get("train", usual), (given["test"],) if "test" in given else TEST_SPLITS
    return (("split", train),), tuple(("split", name) for name in tests)


@dataclass(frozen=True)
class _Contents:
    """A split: its labels [N] as they are, what makes the images with class ids, the classes' names, and its own."""

    labels: list[int | None]
    make: Make
    classes: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class _Pictures:
    """The pictures of a data set of torchvision's, as files without compression would hold them."""

    source: Any

    def __call__(self, index: int) -> bytes:
        file = io.BytesIO()
        self.source[index][0].convert("RGB").save(file, "ppm")
        return file.getvalue()


@lru_cache(maxsize=2)  # each stage of a run opens the data
def _contents(kind: type, root: Path, download: bool, *choices: tuple[str, Hashable]) -> _Contents:
    """A whole split, of which no image is decoded where torchvision leaves that to others."""
    source, split = _opened(kind, root, download, choices)
    name = f"{kind.__name__} {split}"
    classes = tuple(one if isinstance(one, str) else ", ".join(one) for one in getattr(source, "classes", ()))
    labels: list[int | None] = []
    files: list[str] = []
    pixels: list[NDArray[np.uint8]] = []
    marks: list[int] = []
    for index in range(len(source)):
        picture, label = _example(source, index, name)
        labels.append(label)
        if isinstance(picture, str):
            files.append(picture)
            continue
        values = np.asarray(picture.convert("RGB"))
        marks.append(zlib.crc32(values.tobytes()))
        is_alike = index == len(pixels) and values.shape == (pixels[0] if pixels else values).shape
        if is_alike and values.nbytes * len(source) <= IN_MEMORY:
            pixels.append(values)
    make: Make = partial(EncodedImages, _Pictures(source), marks=marks, name=name)
    if files:
        make = partial(FileImages, files)
    elif len(pixels) == len(labels) > 0:
        make = partial(ArrayImages, np.stack(pixels))
    return _Contents(labels, make, classes, name)


def _example(source: Any, index: int, name: str) -> tuple[Any, int | None]:
    """A picture, or its file, and its label; None where nobody tells it."""
    try:
        item = source[index]
    except Exception as error:  # of whatever reads the file
        raise DataError(f"Image {index} of {name} cannot be read ({_said(error)}); replace its file.") from error
    label = item[1]
    if len(item) == 2 and (label is None or isinstance(label, int | np.integer)):
        return item[0], None if label is None else int(label)
    raise DataError(
        f"{name} tells no class of an image, but {type(label).__name__}; type data.dataset=NAME with a classification "
        "set, such as SVHN."
    )


def _opened(kind: type, root: Path, download: bool, choices: Sequence[tuple[str, Hashable]]) -> tuple[Any, str]:
    """The first split that there is, and its name."""
    refusals = []
    for argument, value in choices:
        try:
            source = _made(kind, root, download, {argument: value})
            return source, str(value) if argument == "split" else "train" if value else "test"
        except DataError:
            raise
        except ValueError as error:  # it has no such split
            refusals.append(error)
    raise DataError(
        f"torchvision's {kind.__name__} has no split {choices[0][1]!r} ({_said(refusals[0])}); type "
        "data.train_split=NAME data.test_split=NAME with those that it has."
    )


def _made(kind: type, root: Path, download: bool, split: dict[str, Hashable]) -> Any:
    """The data set as torchvision opens it; its files are fetched where they are not there and may be."""
    takes = _arguments(kind)
    options: dict[str, Any] = {**split, **({"loader": str} if "loader" in takes else {})}  # the file is asked for
    try:
        return kind(str(root), **options)
    except ValueError:
        raise
    except Exception as error:  # each set has its own ways to say that a file is absent or damaged
        if not download or "download" not in takes:
            raise DataError(_absent(kind, root, "or is damaged there", error, takes)) from error
    try:
        with network_timeout():
            return kind(str(root), download=True, **options)
    except Exception as error:
        # `from None`: forty lines of urllib would hide the one sentence.
        raise DataError(_absent(kind, root, "and could not be fetched", error, takes)) from None


def _absent(kind: type, root: Path, why: str, error: Exception, takes: Mapping[str, Any]) -> str:
    fetch = ", or data.download=true where there is a network" if "download" in takes else ""
    return (
        f"torchvision's {kind.__name__} is not in {root}, {why} ({_said(error)}); put its files there as torchvision "
        f"lays them out, type data.root=FOLDER{fetch}."
    )


def _said(error: Exception) -> str:
    """What a library says, as a clause."""
    return " ".join(str(error).split()).rstrip(".").replace(". ", "; ") or type(error).__name__


register_dataset(
    DatasetSpec(
        name="hf",
        read=read_hf,
        image_size=224,
        normalisation=IMAGENET,
        group_cuts=None,
        description="any data set of Hugging Face's with images and classes, from a folder or the hub",
    )
)
register_dataset(
    DatasetSpec(
        name="torchvision",
        read=read_torchvision,
        image_size=224,
        normalisation=IMAGENET,
        group_cuts=None,
        description="any classification set of torchvision's with a training and a test split",
    )
)
