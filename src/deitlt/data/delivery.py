"""Which way the training images take to the step, by the view, the images and what the user asked for."""

from typing import Literal

import torch
from torchvision import transforms

from deitlt.data.feeds import (
    BatchView,
    EncodedCrops,
    Feed,
    ResidentImages,
    StreamedCrops,
    StreamedImages,
    WorkerViews,
)
from deitlt.data.images import ImageDataset, path_of
from deitlt.data.loading import View
from deitlt.data.resident import Resident, choose_resident
from deitlt.errors import ConfigError

Decoder = Literal["worker", "device"]


def make_feed(
    source: ImageDataset,
    view: View | BatchView,
    resident: Resident,
    decoder: Decoder,
    device: torch.device,
    seed: int,
    rank: int,
) -> Feed:
    """A per-image view is made by workers; a batch's view gets resident images, or streamed ones.

    Args:
        source: the training images.
        view: of one picture, or of a batch.
        resident: whether the images are to live on the device; 'auto' chooses now, by the memory that is free.
        decoder: where files that are streamed are decoded.
        device: where the batches go.
        seed: the run's.
        rank: this rank.

    Raises:
        ConfigError: what was asked for does not fit the view or the images.
    """
    if not isinstance(view, BatchView):
        return WorkerViews(source, view, seed, rank)
    if choose_resident(source, resident, device) if resident == "auto" else resident:
        return ResidentImages(source, view)
    if decoder == "device":
        return _encoded(source, view, seed, rank)
    return StreamedImages(source, view) if path_of(source) is None else StreamedCrops(source, view, seed, rank)


def _encoded(source: ImageDataset, view: BatchView, seed: int, rank: int) -> Feed:
    if path_of(source) is None:
        raise ConfigError("data.decoder=device decodes files, and these images have none; type data.decoder=worker.")
    if not isinstance(view.worker_crop(), transforms.RandomResizedCrop):
        raise ConfigError(
            f"data.decoder=device makes only random resized crops; type data.decoder=worker, or "
            f"{getattr(view, 'where', 'student.views.train')}.crop=resized."
        )
    return EncodedCrops(source, view, seed, rank)
