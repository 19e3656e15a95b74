"""Long-tailed data: the data sets by name, samplers, and the LightningDataModule."""

from deitlt.data import folder, large
from deitlt.data.datamodule import LongTailDataModule
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

__all__ = [
    "ClassBalancedSampler",
    "DataRequest",
    "DataSplits",
    "DatasetSpec",
    "EvaluationSampler",
    "FullRepeatedAugmentationSampler",
    "ImageDataset",
    "LongTailDataModule",
    "RepeatedAugmentationSampler",
    "ShuffledSampler",
    "folder",
    "get_dataset",
    "large",
    "list_datasets",
    "register_dataset",
]
