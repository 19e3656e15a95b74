"""Long-tailed data: the data sets by name, samplers, and the LightningDataModule."""

from deitlt.data import folder, libraries, lists
from deitlt.data.datamodule import LoaderOptions, LongTailDataModule, Transforms
from deitlt.data.datasets import (
    DataRequest,
    DatasetSpec,
    DataSplits,
    get_dataset,
    list_datasets,
    register_dataset,
)
from deitlt.data.images import ImageDataset
from deitlt.data.samplers import (
    ClassBalancedSampler,
    EvaluationSampler,
    FullRepeatedAugmentationSampler,
    RepeatedAugmentationSampler,
    ShuffledSampler,
)
from deitlt.data.splits import SplitOptions

__all__ = [
    "ClassBalancedSampler",
    "DataRequest",
    "DataSplits",
    "DatasetSpec",
    "EvaluationSampler",
    "FullRepeatedAugmentationSampler",
    "ImageDataset",
    "LoaderOptions",
    "LongTailDataModule",
    "RepeatedAugmentationSampler",
    "ShuffledSampler",
    "SplitOptions",
    "Transforms",
    "folder",
    "get_dataset",
    "libraries",
    "list_datasets",
    "lists",
    "register_dataset",
]
