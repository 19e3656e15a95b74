"""torch data sets over a source: one that draws a view of an image, one that shows it for evaluation."""

from collections.abc import Callable

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from deitlt.data.samplers import Draw
from deitlt.data.sources import ImageSource
from deitlt.data.streams import own_streams
from deitlt.types import IGNORED

Viewed = Tensor | tuple[Tensor, ...]  # one view [3, H, W], or several
View = Callable[[Image.Image], Viewed]


class ViewedImages(Dataset[tuple[Viewed, int]]):
    """Random views of a source's images, asked for by `Draw`.

    A view depends on (seed, rank, epoch, index, repeat) alone: not on the number of workers, on what was
    drawn before, nor on where a run was resumed.

    Args:
        source: the images.
        view: makes the network's input [3, H, W] of an RGB image, or several; it may draw from Python's,
            NumPy's and torch's global streams.
        seed: the run's seed, 0 or more.
        rank: this rank, so that ranks which get copies of one image view them differently.
    """

    def __init__(self, source: ImageSource, view: View, seed: int, rank: int) -> None:
        self.source = source
        self.view = view
        self.seed = seed
        self.rank = rank

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> tuple[Viewed, int]:
        image = self.source[draw.index]
        with own_streams(self.seed, self.rank, *draw):
            view = self.view(image)
        return view, int(self.source.labels[draw.index])


class EvaluatedImages(Dataset[tuple[Viewed, int]]):
    """A source's images for evaluation, asked for by (index, counted).

    Args:
        source: the images.
        view: makes the network's input [3, H, W] of an RGB image, without chance.
    """

    def __init__(self, source: ImageSource, view: View) -> None:
        self.source = source
        self.view = view

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, item: tuple[int, bool]) -> tuple[Viewed, int]:
        """The image and its class id, or `IGNORED` where it only fills up a batch."""
        index, counted = item
        return self.view(self.source[index]), int(self.source.labels[index]) if counted else IGNORED
