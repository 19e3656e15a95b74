"""Long-tailed data: the data sets by name, samplers, and the LightningDataModule."""

from deitlt.data import cifar, digits, folder, large
from deitlt.data.balanced_samplers import ClassBalancedSampler
from deitlt.data.module import LongTailDataModule
from deitlt.data.registry import (
    DataRequest,
    DatasetSpec,
    DataSplits,
    get_dataset,
    list_datasets,
    register_dataset,
)
from deitlt.data.samplers import (
    EvaluationSampler,
    FullRepeatedAugmentationSampler,
    RepeatedAugmentationSampler,
    ShuffledSampler,
)
from deitlt.data.sources import ImageSource

__all__ = [
    "ClassBalancedSampler",
    "DataRequest",
    "DataSplits",
    "DatasetSpec",
    "EvaluationSampler",
    "FullRepeatedAugmentationSampler",
    "ImageSource",
    "LongTailDataModule",
    "RepeatedAugmentationSampler",
    "ShuffledSampler",
    "cifar",
    "digits",
    "folder",
    "get_dataset",
    "large",
    "list_datasets",
    "register_dataset",
]
