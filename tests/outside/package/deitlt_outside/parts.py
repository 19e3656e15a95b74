"""A loss, a sampler, a transform, an optimiser, a method, a callback, a logger, and a data set."""

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.nn import functional as F

from deitlt.data import ShuffledSampler
from deitlt.data.datasets import DatasetSpec, get_dataset, register_dataset
from deitlt.modules import StudentModule
from deitlt.transforms import weak_transform


class Focal(nn.Module):
    """logits [B, C], targets [B] or [B, C] -> a value for each image [B]."""

    def __init__(self, gamma=1.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, targets):
        logs = logits.log_softmax(dim=1)
        targets = F.one_hot(targets, logits.shape[1]) if targets.ndim == 1 else targets
        return -(targets * (1 - logs.exp()) ** self.gamma * logs).sum(dim=1)


class ReversedSampler(ShuffledSampler):
    """Each epoch backwards."""

    def _order(self):
        return super()._order()[::-1]


def mirrored(image_size, normalisation, **options):
    """deitlt's weak transform, half of its images mirrored."""
    return weak_transform(image_size, normalisation, **{**options, "flip": 0.5})


def sgd(network, lr):
    """Without momentum, and without decay of biases."""
    several = [p for p in network.parameters() if p.ndim > 1]
    single = [p for p in network.parameters() if p.ndim <= 1]
    return torch.optim.SGD([{"params": several, "weight_decay": 1e-4}, {"params": single}], lr=lr)


class HalvedStudent(StudentModule):
    """A student of half the loss."""

    def training_step(self, batch, batch_idx):
        return 0.5 * super().training_step(batch, batch_idx)


class Note(L.Callback):
    """Says what trains, and on how many devices."""

    def on_train_start(self, trainer, module):
        print(f"note: {type(module).__name__} on {trainer.world_size}", flush=True)


class Lines(Logger):
    """A line in a file for what is logged."""

    name = version = "lines"

    def __init__(self, save_dir):
        super().__init__()
        self.file = Path(save_dir, "lines.txt")

    def log_hyperparams(self, params):
        pass

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        with self.file.open("a") as file:
            print(step, *metrics, file=file)


def split_digits(request):
    return get_dataset("digits").read(request)


_digits = get_dataset("digits")
register_dataset(DatasetSpec("outside", split_digits, 8, _digits.normalisation, None, "digits under another name"))
