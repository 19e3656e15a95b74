"""How training images reach the step: what is handed out for each draw, and what the device makes of a batch.

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

from deitlt.data.dataset import View, ViewedImages
from deitlt.data.decoding import decode_cropped, decode_jpegs, decode_whole, draw_box, read_bytes, resize_box
from deitlt.data.samplers import Draw
from deitlt.data.sources import ImageSource
from deitlt.data.streams import own_streams
from deitlt.data.verify import path_of

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

    images: what a `Draw` asks: (what travels, class id). collate: makes a batch of such pairs. by_workers:
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

    def __init__(self, source: ImageSource, view: View, seed: int, rank: int) -> None:
        self.images: Dataset[Any] = ViewedImages(source, view, seed, rank)

    def collate(self, pairs: list[Any]) -> Any:
        """Views [B, 3, H, W], and targets [B]."""
        return default_collate(pairs)

    def finish(self, travelled: Views, device: torch.device, rng: np.random.Generator) -> Views:
        """The views as they came."""
        return travelled


class ResidentImages:
    """Images that live on the device: their indices travel, and the batch is gathered there.

    Args:
        pixels: [N, 3, H, W] uint8; they move to the device of the first batch, and stay there.
        labels: [N] class ids.
        view: of a whole batch.
    """

    by_workers = False

    def __init__(self, pixels: Tensor, labels: np.ndarray[Any, np.dtype[np.int64]], view: BatchView) -> None:
        self.pixels = pixels
        self.view = view
        self.images: Dataset[Any] = Indices(labels)

    def collate(self, pairs: list[Any]) -> Any:
        """Indices [B], and targets [B]."""
        return default_collate(pairs)

    def finish(self, travelled: Tensor, device: torch.device, rng: np.random.Generator) -> Tensor:
        """indices: [B] -> the views of those images."""
        if self.pixels.device != device:
            self.pixels = self.pixels.to(device)
        return self.view(self.pixels.index_select(0, travelled), rng)


class StreamedImages:
    """Whole images of one size that travel as uint8."""

    by_workers = True

    def __init__(self, source: ImageSource, view: BatchView) -> None:
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

    def __init__(self, source: ImageSource, view: BatchView, seed: int, rank: int) -> None:
        self.view = view
        self.images: Dataset[Any] = CroppedImages(source, view, seed, rank)

    def collate(self, pairs: list[Any]) -> Any:
        """Crops [B, 3, S, S] uint8, and targets [B]."""
        return default_collate(pairs)

    def finish(self, travelled: Tensor, device: torch.device, rng: np.random.Generator) -> Tensor:
        """crops: [B, 3, S, S] uint8 -> their views."""
        return self.view(travelled, rng, cropped=True)


class EncodedCrops:
    """JPEG files that travel as they are, and are decoded and cropped on the device; workers only draw the crops."""

    by_workers = True

    def __init__(self, source: ImageSource, view: BatchView, seed: int, rank: int) -> None:
        self.view = view
        crop = view.worker_crop()
        assert isinstance(crop, transforms.RandomResizedCrop)
        self.interpolation = crop.interpolation
        self.images: Dataset[Any] = EncodedImages(source, crop, seed, rank)

    def collate(self, pairs: list[Any]) -> Any:
        """(content, box) of each image, and targets [B]; bytes stay on the host, where the decoder wants them."""
        encoded, targets = zip(*pairs, strict=True)
        return list(encoded), torch.tensor(targets)

    def finish(self, travelled: list[Any], device: torch.device, rng: np.random.Generator) -> Tensor:
        """(content, box) of each image -> their views."""
        whole = decode_jpegs([content for content, _ in travelled], device)
        size = self.view.image_size
        crops = [
            resize_box(image, box, size, self.interpolation) for image, (_, box) in zip(whole, travelled, strict=True)
        ]
        return self.view(torch.stack(crops), rng, cropped=True)


class Indices(Dataset[tuple[int, int]]):
    """Where an image stands, and its class id."""

    def __init__(self, labels: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, draw: Draw) -> tuple[int, int]:
        return draw.index, int(self.labels[draw.index])


class WholeImages(Dataset[tuple[Tensor, int]]):
    """A source's images as uint8 [3, H, W]."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self.path = path_of(source)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        return pixels_of(self.source, self.path, draw.index), int(self.source.labels[draw.index])


class CroppedImages(Dataset[tuple[Tensor, int]]):
    """Random crops of a source's images, uint8 [3, S, S]; a crop depends on (seed, rank, draw) alone."""

    def __init__(self, source: ImageSource, view: BatchView, seed: int, rank: int) -> None:
        self.source, self.path = source, path_of(source)
        self.crop, self.image_size = view.worker_crop(), view.image_size
        self.seed, self.rank = seed, rank

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        with own_streams(self.seed, self.rank, *draw):
            if self.path is None:
                crop = self.crop(pixels_of(self.source, None, draw.index))
            else:
                crop = decode_cropped(self.path(draw.index), self.crop, self.image_size)
        assert isinstance(crop, Tensor)
        return crop, int(self.source.labels[draw.index])


class EncodedImages(Dataset[tuple[Any, int]]):
    """A source's files as they are, each with the part of it that a random resized crop takes."""

    def __init__(self, source: ImageSource, crop: transforms.RandomResizedCrop, seed: int, rank: int) -> None:
        self.source, self.path, self.crop = source, path_of(source), crop
        self.seed, self.rank = seed, rank

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> tuple[Any, int]:
        assert self.path is not None
        path = self.path(draw.index)
        content = read_bytes(path)
        with own_streams(self.seed, self.rank, *draw):
            box = draw_box(path, content, self.crop)
        return (content, box), int(self.source.labels[draw.index])


def pixels_of(source: ImageSource, path: Callable[[int], str] | None, index: int) -> Tensor:
    """An image of a source, decoded as fast as its kind allows: [3, H, W] uint8."""
    if path is not None:
        return decode_whole(path(index))
    return torch.from_numpy(np.array(source[index])).permute(2, 0, 1).contiguous()
