"""Small networks under a real Trainer, and SAM written out by hand to compare with."""

import contextlib
import warnings
from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from deitlt.callbacks import SharpnessAwareMinimization

GOLDEN = Path(__file__).parents[1] / "golden" / "sam.npz"
warnings.filterwarnings("ignore", module=r"lightning\..*")


def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def golden_network():
    """The reference's 8-16-4 tanh network, float64."""
    net, arrays = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).double(), golden()
    names = ("fc1_w", "fc1_b", "fc2_w", "fc2_b")
    for parameter, name in zip(net.parameters(), names, strict=True):
        parameter.data = torch.from_numpy(arrays[f"init_{name}"])
    return net


def golden_data():
    """The reference's five batches of 32 as one data set."""
    arrays = golden()
    return torch.from_numpy(arrays["X"]).flatten(0, 1), torch.from_numpy(arrays["Y"]).flatten()


def flat(net):
    return nn.utils.parameters_to_vector(net.parameters()).detach().clone()


def sgd(parameters, lr=0.1):
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=5e-4)


class Classifier(L.LightningModule):
    """Cross-entropy of a network; notes the weights at each pass and after each update."""

    def __init__(self, net, lr=0.1):
        super().__init__()
        self.net, self.lr = net, lr
        self.passes, self.updates, self.steps = [], [], []

    def training_step(self, batch, batch_idx):
        self.passes.append(flat(self.net))
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.trainer.global_step > len(self.updates):
            self.updates.append(flat(self.net))

    def configure_optimizers(self):
        return sgd(self.parameters(), self.lr)


def fit(module, data, sam=None, batch_size=32, epochs=1, callbacks=(), **options):
    """Train on `data` in its order, with SAM if a callback is given; returns the trainer."""
    defaults = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    all_callbacks = [*callbacks, *([] if sam is None else [sam])]
    trainer = L.Trainer(max_epochs=epochs, callbacks=all_callbacks, **{**defaults, **quiet, **options})
    trainer.fit(module, DataLoader(TensorDataset(*data), batch_size=batch_size))
    return trainer


def by_hand(net, data, rho, batch_size=32, accumulate=1, clip=None, epochs=1, autocast=None, lr=0.1):
    """SAM as in the paper: the weights after each update. rho: a function of the epoch."""
    optimizer, after = sgd(net.parameters(), lr), []
    batches = list(zip(*(part.split(batch_size) for part in data), strict=True))
    windows = [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]

    def gradient(window):
        optimizer.zero_grad()
        for x, y in window:
            with autocast or contextlib.nullcontext():
                loss = F.cross_entropy(net(x), y)
            (loss / accumulate).backward()

    for epoch in range(epochs):
        for window in windows:
            gradient(window)
            kept = [p.detach().clone() for p in net.parameters()]
            norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
            with torch.no_grad():
                for p in net.parameters():
                    p += rho(epoch) * p.grad / (norm + 1e-12)
            gradient(window)
            with torch.no_grad():
                for p, old in zip(net.parameters(), kept, strict=True):
                    p.copy_(old)
            if clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            after.append(flat(net))
    return torch.stack(after)


def sam(rho=0.05, **options):
    return SharpnessAwareMinimization(rho, **options)
