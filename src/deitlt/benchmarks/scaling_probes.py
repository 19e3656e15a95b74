"""What is timed for each size: a small student's step, and the work beside it that grows with images and classes."""

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from deitlt.benchmarks.memory import fresh_peak, peak_bytes
from deitlt.benchmarks.timing import Work, seconds
from deitlt.data.datasets import DataSplits
from deitlt.data.images import Labels
from deitlt.data.samplers import KeyedSampler, ShuffledSampler
from deitlt.data.splits import SplitOptions, long_tailed
from deitlt.longtail import class_counts, frequency_groups
from deitlt.losses import CrossEntropyLoss, DistillationLoss, effective_number_weights
from deitlt.metrics import GroupedAccuracy
from deitlt.models import create_student
from deitlt.types import TokenLogits

WIDTH, DEPTH, HEADS, PATCH = 64, 2, 2, 8  # of the student: small, so that what grows beside it is seen
IMBALANCE = 0.01
IMAGES_A_CLASS = 5  # of the smallest class
SPLIT_CLASSES = 100  # where images are varied
FEWEST_IMAGES = 10_000  # there, so that the smallest class has one
LONG = 4.0  # seconds, after which nothing is timed again: what takes so long needs no warm-up either


class Cost(NamedTuple):
    """What one size takes: seconds, the median of several times, and bytes of memory beyond what was there before."""

    seconds: float
    memory: int


@dataclass(frozen=True)
class Sizes:
    """The student's step: all but what is varied stays as it is here."""

    classes: int = 10
    pixels: int = 32
    batch: int = 32


class LabelsOnly:
    """A source of images that nobody asks for: N labels, and no pixel.

    Args:
        labels: [N] class ids.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> object:
        raise NotImplementedError("there are only labels")


def split_cost(images: int, repeats: int) -> Cost:
    """Make a data set of so many images long-tailed and hold out a tenth for validation."""
    whole = LabelsOnly(np.random.default_rng(0).permutation(np.arange(images) % SPLIT_CLASSES))
    splits = DataSplits(whole, whole, tuple(map(str, range(SPLIT_CLASSES))))  # type: ignore[arg-type]
    return _cost(lambda: long_tailed(splits, SplitOptions(IMBALANCE, val_fraction=0.1), None), repeats)


def order_cost(images: int, repeats: int) -> Cost:
    """Draw the whole order of an epoch over so many images."""
    order = KeyedSampler(ShuffledSampler(LabelsOnly(np.zeros(images, np.int64)), num_replicas=1, rank=0))
    return _cost(lambda: deque(order, maxlen=0), repeats)


def step_cost(axis: str, value: int, repeats: int) -> Cost:
    """Forward, loss with class weights for DIST, backward and AdamW, of a batch that is on the device."""
    device, sizes = _device(), Sizes(**{axis: value})
    network = create_student(
        sizes.classes,
        "deit_tiny_patch16_224",
        image_size=sizes.pixels,
        patch_size=PATCH,
        width=WIDTH,
        depth=DEPTH,
        heads=HEADS,
    ).to(device)
    loss = _loss(sizes.classes).to(device)
    optimizer = torch.optim.AdamW(network.parameters())
    images = torch.randn(sizes.batch, 3, sizes.pixels, sizes.pixels, device=device)
    targets = torch.arange(sizes.batch, device=device) % sizes.classes

    def step() -> None:
        optimizer.zero_grad()
        loss(network(images), targets, targets).loss.backward()
        optimizer.step()

    return _cost(step, repeats)


def loss_cost(axis: str, value: int, repeats: int) -> Cost:
    """The loss alone with its gradient, of logits that are there, and the making of its class weights."""
    device, sizes = _device(), Sizes(**{axis: value})
    classes = sizes.classes
    logits = torch.randn(2, sizes.batch, classes, device=device, requires_grad=True)
    targets = torch.arange(sizes.batch, device=device) % classes

    def step() -> None:
        answers = TokenLogits(logits[0], logits[1])
        _loss(classes).to(device)(answers, targets, targets).loss.backward()

    return _cost(step, repeats)


def accuracy_cost(axis: str, value: int, repeats: int) -> Cost:
    """Count a batch's answers and conclude by class and group, as an evaluation does."""
    device, sizes = _device(), Sizes(**{axis: value})
    classes = sizes.classes
    groups = {name: ids.tolist() for name, ids in frequency_groups(_counts(classes), cuts=_cuts(classes)).items()}
    metric = GroupedAccuracy(classes, groups).to(device)
    logits = torch.randn(sizes.batch, classes, device=device)
    targets = torch.arange(sizes.batch, device=device) % classes

    def evaluate() -> None:
        metric.update(logits, targets)
        metric.compute()
        metric.reset()

    return _cost(evaluate, repeats)


def _loss(classes: int) -> DistillationLoss:
    """The student's loss in its deferred phase: DIST's part is weighted by class."""
    loss = DistillationLoss("hard", cls_loss=CrossEntropyLoss(counts=_counts(classes)))
    loss.reweight(effective_number_weights(_counts(classes)))
    return loss


def _counts(classes: int) -> list[int]:
    return class_counts(classes, round(IMAGES_A_CLASS / IMBALANCE), IMBALANCE)


def _cuts(classes: int) -> tuple[int, int]:
    return classes // 3, 2 * classes // 3


def _cost(work: Work, repeats: int) -> Cost:
    """One warm-up, then the median, of fewer where they take long; the memory is that of all of them."""
    device = _device()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else fresh_peak()
    times = [seconds(work, device)]
    while len(times) <= repeats and sum(times) < LONG:
        times.append(seconds(work, device))
    after = torch.cuda.max_memory_allocated() if on_gpu else peak_bytes()
    return Cost(median(times[1:] or times), after - before)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
