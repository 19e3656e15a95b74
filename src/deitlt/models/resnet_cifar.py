"""CIFAR ResNets (He et al., "Deep Residual Learning", CVPR 2016, section 4.2): 6n+2 layers, and the cosine head."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Head = Literal["linear", "cosine"]


class CosineLinear(nn.Module):
    """Cosine classifier: features and class vectors are normalised to length one.

    LDAM's margins (Cao et al., 2019, section 3.3) are distances only between such vectors; the loss scales the cosines.
    The weight is [in_features, out_features], one column a class, as in the published teachers, so their files load.

    Args:
        in_features: length D of a feature row.
        out_features: classes C.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        # Random directions: only a column's direction matters.
        self.weight = nn.Parameter(F.normalize(torch.empty(in_features, out_features).uniform_(-1, 1), dim=0))

    def forward(self, features: Tensor) -> Tensor:
        """features: [B, D] -> cosines: [B, C], in [-1, 1]."""
        return F.normalize(features, dim=1) @ F.normalize(self.weight, dim=0)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A).

    Where the block halves the image and widens the channels, the shortcut takes every second pixel and pads the
    new channels with zeros, half before and half after.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C_in, H, W] -> [B, C, H/stride, W/stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.new_channels == 0:
            return x
        before = self.new_channels // 2
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, before, self.new_channels - before))


class CifarResNet(nn.Module):
    """A ResNet of depth 6n+2 with 16, 32 and 64 channels, for images of any size from 8 pixels.

    Parameters are named as in the published CIFAR teachers, so their weights load.

    Args:
        num_classes: classes C; 0 for no classifier: the output is then the pooled features, [B, 64].
        depth: 8, 20, 32, 44, 56, ...: 6n+2 layers with n blocks a stage.
        head: 'linear' for logits, 'cosine' for the cosines that LDAM needs.
    """

    num_features = 64

    def __init__(self, num_classes: int, depth: int = 32, head: Head = "linear") -> None:
        super().__init__()
        assert depth % 6 == 2, f"a CIFAR ResNet has 6n+2 layers, not {depth}"
        blocks = depth // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        make_head = CosineLinear if head == "cosine" else nn.Linear
        self.linear = make_head(self.num_features, num_classes) if num_classes else nn.Identity()
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def get_classifier(self) -> nn.Module:
        """The head, as timm calls it."""
        return self.linear

    def forward_features(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] -> pooled features: [B, 64]."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)

    def forward(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] -> logits (or cosines): [B, C]."""
        logits: Tensor = self.linear(self.forward_features(images))
        return logits


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))
