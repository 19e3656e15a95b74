"""Several views of one picture: pairs, and crops of two sizes."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL.Image import Image
from torch import Tensor

View = Callable[[Image], Tensor]


@dataclass(frozen=True)
class SeveralViews:
    """A tuple of views of one picture, each drawn by itself, in a fixed order.

    A class and not a closure, so that a data loader can hand it to workers that it spawns.

    Args:
        views: picture -> [3, H, W], each with a size of its own.
    """

    views: tuple[View, ...]

    def __call__(self, picture: Image) -> tuple[Tensor, ...]:
        """One tensor [3, H, W] from each view."""
        return tuple(view(picture) for view in self.views)
