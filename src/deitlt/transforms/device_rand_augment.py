"""RandAugment of a whole batch on its device, each sample with operations of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from deitlt.transforms.device_colours import (
    auto_contrast_tables,
    coloured,
    contrast_tables,
    equalize_tables,
    fixed_tables,
    look_up,
    sharpened,
)
from deitlt.transforms.device_geometry import Moves, Warps, draw_warps, moves, warped
from deitlt.transforms.device_policy import Layer, Operation, Policy
from deitlt.transforms.device_slides import slid, slide_tables
from deitlt.transforms.device_transfer import moved
from deitlt.transforms.resampling import Interpolation


class _Sorted(NamedTuple):
    """A layer on its device: the samples that it touches, sorted by operation, and their arguments.

    samples, arguments: [N]. tables: [T, 256] of those that come first. moves: of rotations. rows, columns: tables of
    those that slide along rows, and along columns.
    starts: where each operation begins, and N; on the host, so that nobody waits for the device.
    """

    samples: Tensor
    arguments: Tensor
    tables: Tensor
    moves: Moves
    rows: Tensor
    columns: Tensor
    starts: list[int]

    def span(self, first: Operation, last: Operation) -> slice:
        """Where the samples of the operations from `first` to `last` stand."""
        return slice(self.starts[first], self.starts[last + 1])


@dataclass(frozen=True)
class BatchRandAugment:
    """RandAugment with draws for each sample, for levels from 0 to 255.

    Args:
        policy: what is drawn.
        fill: a level for each channel, of what moves in from outside.
        interpolation: 'bicubic' or 'bilinear', of the geometric operations.
    """

    policy: Policy
    fill: tuple[int, int, int]
    interpolation: Interpolation = "bicubic"

    def draw(self, batch: int, size: tuple[int, int], rng: np.random.Generator) -> list[tuple[Layer, Warps]]:
        """Each layer's draws for a batch of images of a height and a width, from `rng`."""
        return draw_warps(self.policy.draw(batch, rng), size)

    def __call__(self, images: Tensor, layers: Sequence[tuple[Layer, Warps]]) -> Tensor:
        """images: [B, 3, H, W] float32, whole levels; changed in place by what was drawn, and returned."""
        fill = moved(np.array(self.fill, np.float32), images.device).view(3, 1, 1)
        for layer, warps in layers:
            self._apply(images, layer, warps, fill)
        return images

    def _apply(self, images: Tensor, layer: Layer, warps: Warps, fill: Tensor) -> None:
        """One layer, in place; only the samples that it touches are read and written."""
        here = _sorted(layer, warps, images, self.interpolation)
        self._through_tables(images, here)
        changes: list[tuple[Operation, Operation, Callable[[Tensor, Tensor], Tensor]]] = [
            (Operation.COLOR, Operation.COLOR, coloured),
            (Operation.SHARPNESS, Operation.SHARPNESS, sharpened),
            (Operation.ROTATE, Operation.ROTATE, lambda x, _: warped(x, here.moves, fill, self.interpolation)),
            (Operation.SHEAR_X, Operation.TRANSLATE_Y, lambda x, _: slid(x, here.rows, here.columns, fill)),
        ]
        for first, last, change in changes:
            span = here.span(first, last)
            if (samples := here.samples[span]).numel():
                images.index_copy_(0, samples, change(images.index_select(0, samples), here.arguments[span]))

    def _through_tables(self, images: Tensor, here: _Sorted) -> None:
        """The operations that replace each level by another one, whatever is around it."""
        samples = here.samples[here.span(Operation.INVERT, Operation.EQUALIZE)]
        if not samples.numel():
            return
        parts = images.index_select(0, samples)
        indices = parts.flatten(2).long()
        contrast, auto, equal = (
            here.span(o, o) for o in (Operation.CONTRAST, Operation.AUTO_CONTRAST, Operation.EQUALIZE)
        )
        tables = [here.tables.unsqueeze(1).expand(-1, 3, -1)]
        if contrast.stop > contrast.start:
            tables.append(contrast_tables(parts[contrast], here.arguments[contrast]))
        if auto.stop > auto.start:
            tables.append(auto_contrast_tables(parts[auto]))
        if equal.stop > equal.start:
            tables.append(equalize_tables(parts[equal], indices[equal]))
        images.index_copy_(0, samples, look_up(torch.cat(tables), indices, parts.shape))


def _sorted(layer: Layer, warps: Warps, images: Tensor, interpolation: Interpolation) -> _Sorted:
    device, (height, width) = images.device, images.shape[-2:]
    order = np.argsort(layer.operations, kind="stable")
    order = order[np.searchsorted(layer.operations[order], 0) :]  # from here on they are touched
    operations, arguments = layer.operations[order], layer.arguments[order]
    starts: list[int] = np.searchsorted(operations, np.arange(len(Operation))).tolist()
    tables, across, down = (starts[o] for o in (Operation.CONTRAST, Operation.SHEAR_X, Operation.SHEAR_Y))
    rows = slide_tables(operations[across:down], arguments[across:down], width, height, interpolation)
    columns = slide_tables(operations[down:], arguments[down:], height, width, interpolation)
    return _Sorted(
        moved(order, device),
        moved(arguments.astype(np.float32), device),
        moved(fixed_tables(operations[:tables], arguments[:tables]), device),
        moves(warps, order[starts[Operation.ROTATE] : across], device),
        moved(rows, device),
        moved(columns, device),
        starts,
    )
