"""Measures the student's views: images/s of one for batches on the device over timm's for each image in workers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig
from torch.utils.data import DataLoader

from deitlt.benchmarks.noise import noise_images
from deitlt.benchmarks.recipes import changed
from deitlt.benchmarks.timing import in_turns, median, ratio
from deitlt.data.delivery import make_feed
from deitlt.data.feeds import BatchView
from deitlt.data.images import ImageDataset
from deitlt.data.samplers import KeyedSampler, ShuffledSampler
from deitlt.engine.building import make
from deitlt.engine.devices import count_devices
from deitlt.engine.stage_config import plain
from deitlt.errors import ConfigError
from deitlt.transforms import IMAGENET

Plain = dict[str, Any]
View = Callable[..., Any]


def measure_views(config: DictConfig) -> Plain:
    """Lets every view that is compared make its images from the same ones, in turns.

    A view of single images is made in fresh `workers`, a view of batches on the device of images that live there.

    Returns:
        For each pair of sizes and each view: images/s and, of all but the first view, how many times the first's:
        the median over the rounds.

    Raises:
        ConfigError: nothing to compare, or a view that there is not.
    """
    options = config.views
    _check(options)
    names = list(options.compared)
    views = {name: plain(changed([f"student/views={name}"]).student.views.train) for name in names}
    kind, _ = count_devices(config.trainer.accelerator, 1)
    device = torch.device("cuda" if kind == "gpu" else "cpu")
    sizes = []
    for source, size in options.sizes:
        made = {name: make(view)(size, IMAGENET) for name, view in views.items()}
        sizes.append({"source_pixels": source, "pixels": size, "views": _compare(made, source, config, device)})
    return {
        "device": device.type,
        "workers": config.workers,
        "batch": options.batch,
        "views": views,
        "sizes": sizes,
    }


def _check(options: DictConfig) -> None:
    """Raise ConfigError where there is nothing to compare."""
    if not options.compared:
        raise ConfigError("views.compared=[] names no view; type views.compared=[paper,device], say.")
    pairs = [list(pair) if isinstance(pair, ListConfig) else [pair] for pair in options.sizes]
    if not pairs or not all(len(pair) == 2 and all(isinstance(n, int) and n > 0 for n in pair) for pair in pairs):
        raise ConfigError(
            f"views.sizes={list(options.sizes)} must be pairs of pixels, of an image and of its view; type "
            "views.sizes=[[32,224]], say."
        )


def _compare(views: dict[str, View], source_pixels: int, config: DictConfig, device: torch.device) -> list[Plain]:
    """Each view's images/s, and its ratio to the first's."""
    images = config.workers * config.views.batches * config.views.batch
    source = noise_images(images, source_pixels)
    epochs = {name: ViewEpoch(source, view, config.views.batch, config.workers, device) for name, view in views.items()}
    took = in_turns(epochs, config.repeats, device)
    first = next(iter(views))
    return [
        {
            "view": name,
            "made": "on the device" if isinstance(view, BatchView) else "in workers",
            "images_per_second": round(images / median(took[name]), 1),
            "times_the_first": round(ratio(took, first, name), 3),
        }
        for name, view in views.items()
    ]


class ViewEpoch:
    """Makes one view of each image of a source, and leaves it on the device.

    Args:
        source: the images.
        view: of a picture, or of a batch.
        batch: images of a batch.
        workers: processes that make views of pictures; they are started in the first epoch, and stay.
        device: where the views are needed.
    """

    def __init__(self, source: ImageDataset, view: View, batch: int, workers: int, device: torch.device) -> None:
        self.device = device
        self.feed = make_feed(source, view, True, "worker", device, seed=0, rank=0)
        workers = workers if self.feed.by_workers else 0
        self.loader: DataLoader[Any] = DataLoader(
            self.feed.images,
            batch,
            sampler=KeyedSampler(ShuffledSampler(source, num_replicas=1, rank=0)),
            num_workers=workers,
            collate_fn=self.feed.collate,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )
        self.images = 0  # viewed so far

    def __call__(self) -> None:
        """One epoch."""
        for step, (travelled, targets) in enumerate(self.loader):
            here = travelled.to(self.device, non_blocking=True)
            viewed = self.feed.finish(here, self.device, np.random.default_rng((0, step)))
            assert isinstance(viewed, torch.Tensor)
            assert len(viewed) == len(targets)
            self.images += len(viewed)


def views_rows(found: Plain) -> Sequence[tuple[str, str]]:
    """The results, for a table."""
    rows = []
    for sizes in found["sizes"]:
        for view in sizes["views"]:
            where = f"{sizes['source_pixels']} -> {sizes['pixels']} px"
            made = view["made"].replace("workers", f"{found['workers']} workers")
            times = f" ({view['times_the_first']:.2f} x)"
            rows.append((f"{where}, {view['view']} {made}", f"{view['images_per_second']:,.0f} images/s{times}"))
    return rows
