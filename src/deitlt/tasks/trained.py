"""A trained network taken from its checkpoint, ready to answer images on a device."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deitlt.checkpoints import ModelCard, find_checkpoint, load_student, load_teacher, read_card
from deitlt.errors import ConfigError, nearest
from deitlt.tasks.devices import count_devices
from deitlt.tasks.stage_config import STAGES
from deitlt.types import TokenLogits


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode with what its checkpoint says of it."""

    path: Path
    card: ModelCard
    network: nn.Module
    device: torch.device

    @torch.no_grad()
    def answer(self, images: Tensor) -> TokenLogits:
        """images: [B, 3, H, W], normalised, on any device -> logits [B, C] of each token, on the CPU."""
        logits = self.network(images.to(self.device))
        if not isinstance(logits, TokenLogits):
            return TokenLogits(self.card.logit_scale * logits.cpu(), None)
        return TokenLogits(logits.cls.cpu(), None if logits.dist is None else logits.dist.cpu())


def load_trained(checkpoint: str, stage: str, ema: bool, accelerator: str) -> TrainedNetwork:
    """Find, read and place a network.

    Args:
        checkpoint: a file, or the folder of a run or stage.
        stage: which stage of a run's folder.
        ema: of a student, the moving average.
        accelerator: auto | cpu | gpu.

    Raises:
        ConfigError: for an unknown stage, or an average of a teacher.
        CheckpointError: if the file is missing, unsafe or broken.
    """
    if stage not in STAGES:
        raise ConfigError(f"stage={stage} is no stage; {nearest(stage, STAGES)}")
    path = find_checkpoint(checkpoint, (stage,))
    card = read_card(path)
    if ema and card.kind == "teacher":
        raise ConfigError(f"ema=true, but {path} holds a teacher, which has no moving average; type ema=false.")
    device = torch.device("cuda" if count_devices(accelerator, 1)[0] == "gpu" else "cpu")
    network = load_teacher(path) if card.kind == "teacher" else load_student(path, ema)
    return TrainedNetwork(path, card, network.to(device), device)
