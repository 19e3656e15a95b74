"""A teacher and a student."""

from torch import nn

from deitlt.types import TokenLogits


class Teacher(nn.Module):
    """images: [B, 3, H, W] -> logits [B, C]."""

    def __init__(self, num_classes, width=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.head(self.body(images))


class TwoHeads(Teacher):
    """images: [B, 3, H, W] -> `TokenLogits`."""

    tokens = ("cls", "dist")

    def __init__(self, num_classes, width=4):
        super().__init__(num_classes, width)
        self.head_dist = nn.Linear(width, num_classes)

    def forward(self, images):
        features = self.body(images)
        return TokenLogits(self.head(features), self.head_dist(features))
