"""How training images reach the step: what travels of each, and what the device makes of a batch.

A per-image view is made in the workers, and the device has nothing left to do. A view of whole batches gets uint8
images: gathered from a copy that lives on the device, sent there whole, or sent there as crops where images
differ in size.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from torchvision import transforms

from deitlt.data.decoding import decode_jpegs, resize_box
from deitlt.data.feed_images import CroppedImages, EncodedImages, File, Indices, WholeImages
from deitlt.data.images import ImageDataset
from deitlt.data.loading import TrainingImages, View
from deitlt.data.resident import load_resident

Views = Tensor | Sequence[Tensor]  # [B, 3, H, W], or one such tensor a view


@runtime_checkable
class BatchView(Protocol):
    """A view of a whole batch, made on its device."""

    image_size: int

    def __call__(self, images: Tensor, rng: np.random.Generator, cropped: bool = False) -> Tensor:
        """images: [B, 3, H, W] uint8 -> [B, 3, image_size, image_size], normalised; `cropped` ones were cropped."""
        ...

    def worker_crop(self) -> Callable[..., Tensor | Image.Image]:
        """The random crop that it begins with, for images of differing sizes, each by itself."""
        ...


class Feed(Protocol):
    """One way for training images to reach the step.

    images: what a `SampleKey` asks: (what travels, class id). collate: makes a batch of such pairs. by_workers:
    whether there is anything for workers to do.
    """

    images: Dataset[Any]
    by_workers: bool

    def collate(self, pairs: list[Any]) -> Any:
        """What travels of B images, and targets [B]."""
        ...

    def finish(self, travelled: Any, device: torch.device, rng: np.random.Generator) -> Views:
        """The views of a batch that has arrived on its device; `rng` is this batch's own."""
        ...


class WorkerViews:
    """Views that workers make image by image; nothing is left for the device."""

    by_workers = True

    def __init__(self, source: ImageDataset, view: View, seed: int, rank: int) -> None:
        self.images: Dataset[Any] = TrainingImages(source, view, seed, rank)

    def collate(self, pairs: list[Any]) -> Any:
        """Views [B, 3, H, W], and targets [B]."""
        return default_collate(pairs)

    def finish(self, travelled: Views, device: torch.device, rng: np.random.Generator) -> Views:
        """The views as they came."""
        return travelled


class ResidentImages:
    """Images that live on the device: their indices travel, and the batch is gathered there.

    They are decoded when the first batch comes, onto its device, and stay there.

    Args:
        source: images of one size.
        view: of a whole batch.
    """

    by_workers = False

    def __init__(self, source: ImageDataset, view: BatchView) -> None:
        self.source = source
        self.view = view
        self.images: Dataset[Any] = Indices(source.labels)
        self.pixels: Tensor | None = None

    def collate(self, pairs: list[Any]) -> Any:
        """Indices [B], and targets [B]."""
        return default_collate(pairs)

    def finish(self, travelled: Tensor, device: torch.device, rng: np.random.Generator) -> Tensor:
        """indices: [B] -> the views of those images."""
        if self.pixels is None:
            self.pixels = load_resident(self.source, device)
        return self.view(self.pixels.index_select(0, travelled), rng)


class StreamedImages:
    """Whole images of one size that travel as uint8."""

    by_workers = True

    def __init__(self, source: ImageDataset, view: BatchView) -> None:
        self.view = view
        self.images: Dataset[Any] = WholeImages(source)

    def collate(self, pairs: list[Any]) -> Any:
        """Images [B, 3, H, W] uint8, and targets [B]."""
        return default_collate(pairs)

    def finish(self, travelled: Tensor, device: torch.device, rng: np.random.Generator) -> Tensor:
        """images: [B, 3, H, W] uint8 -> their views."""
        return self.view(travelled, rng)


class StreamedCrops:
    """Images of differing sizes: workers decode and crop, and the crops travel as uint8."""

    by_workers = True

    def __init__(self, source: ImageDataset, view: BatchView, seed: int, rank: int) -> None:
        self.view = view
        self.images: Dataset[Any] = CroppedImages(source, view.worker_crop(), view.image_size, seed, rank)

    def collate(self, pairs: list[Any]) -> Any:
        """Crops [B, 3, S, S] uint8, and targets [B]."""
        return default_collate(pairs)

    def finish(self, travelled: Tensor, device: torch.device, rng: np.random.Generator) -> Tensor:
        """crops: [B, 3, S, S] uint8 -> their views."""
        return self.view(travelled, rng, cropped=True)


class EncodedCrops:
    """JPEG files that travel as they are, and are decoded and cropped on the device; workers only draw the crops."""

    by_workers = True

    def __init__(self, source: ImageDataset, view: BatchView, seed: int, rank: int) -> None:
        self.view = view
        crop = view.worker_crop()
        assert isinstance(crop, transforms.RandomResizedCrop)
        self.interpolation = crop.interpolation
        self.images: Dataset[Any] = EncodedImages(source, crop, seed, rank)

    def collate(self, pairs: list[Any]) -> Any:
        """The files' content, and targets [B]; the content stays on the host, where the decoder wants it."""
        files, targets = zip(*pairs, strict=True)
        return Files(files), torch.tensor(targets)

    def finish(self, travelled: "Files", device: torch.device, rng: np.random.Generator) -> Tensor:
        """The files -> the views of their images."""
        whole = decode_jpegs([file.content for file in travelled.files], device)
        size = self.view.image_size
        crops = [
            resize_box(image, file.box, size, self.interpolation)
            for image, file in zip(whole, travelled.files, strict=True)
        ]
        return self.view(torch.stack(crops), rng, cropped=True)


class Files:
    """Files on their way to the device.

    No tuple, list or dataclass: Lightning's transfer looks into those, and would walk through every byte.
    """

    __slots__ = ("files",)

    def __init__(self, files: Sequence[File]) -> None:
        self.files = tuple(files)
