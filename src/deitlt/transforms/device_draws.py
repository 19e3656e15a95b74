"""What is drawn for a batch before any pixel is touched, and parts of it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deitlt.transforms.device_geometry import Warps
from deitlt.transforms.device_policy import Layer


class ViewDraws(NamedTuple):
    """The draws of B samples' views, but for erasing.

    flipped: [B], whether a sample is mirrored. axes: [2, B, S + 3], rows and columns of the crops as a packed `Axis`
    each; None for samples that come cropped. layers: RandAugment's, if any.
    """

    flipped: NDArray[np.bool_]
    axes: NDArray[np.float32] | None
    layers: list[tuple[Layer, Warps]]

    def part(self, chosen: slice) -> "ViewDraws":
        """The draws of some of the samples."""
        axes = None if self.axes is None else self.axes[:, chosen]
        layers = [(layer.part(chosen), warps.part(chosen)) for layer, warps in self.layers]
        return ViewDraws(self.flipped[chosen], axes, layers)
