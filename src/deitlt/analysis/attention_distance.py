"""Mean attention distance: how far, in pixels, the heads of a transformer look."""

import torch
from torch import Tensor

from deitlt.models import attention_weights

# Of a block's attention: 4 MB, which a processor's caches hold; elsewhere 128 MB, enough to fill a device.
_WEIGHTS_AT_ONCE_CPU, _WEIGHTS_AT_ONCE = 2**20, 2**25


class AttentionDistance:
    """Mean attention distance of each block and head, for patches and for the tokens, summed image by image.

    *Patches*: the distance, in pixels, from the centre of the patch that asks to the centre of the patch that
    answers, weighted by attention, mean over the patches that ask and over images (Dosovitskiy et al., 2021,
    appendix D.7; Raghu et al., 2021, section 3; of DeiT-LT's students, Rangwani et al., 2024, the figure on early
    blocks).

    *Tokens* have no place, so no distance from one: here it is the mean distance between two patches that
    are drawn from the token's attention independently, ``sum_pq a_p a_q d(p, q)`` (ours; Rao's quadratic entropy,
    1982). It is 0 where a token looks at one patch, and where attention is uniform it equals the patches' value,
    so that the curves can share an axis.

    In both, attention to tokens is left out and the rest of a row is divided by its sum.

    Args:
        grid: rows and columns of patches.
        patch: height and width of a patch, in pixels.
        tokens: name -> its row among what attention compares.
        prefix: rows before the first patch.
    """

    def __init__(self, grid: tuple[int, int], patch: tuple[int, int], tokens: dict[str, int], prefix: int) -> None:
        self.distances = patch_distances(grid, patch)
        self.tokens, self.prefix = tokens, prefix
        self.images: list[int] = []
        self.sums: list[dict[str, Tensor]] = []

    def update(self, block: int, queries: Tensor, keys: Tensor) -> None:
        """Add a block's attention to a batch; blocks come first to last.

        Args:
            block: its index.
            queries: [B, H, T, d], scaled.
            keys: [B, H, T, d].
        """
        if self.distances.device != queries.device:
            self.distances = self.distances.to(queries.device)
        if block == len(self.sums):
            zeros = queries.new_zeros(queries.shape[1], dtype=torch.float64)
            self.sums.append(dict.fromkeys((*self.tokens, "patches"), zeros))
            self.images.append(0)
        heads, patches = queries.shape[1], len(self.distances)
        for part in _parts(len(queries), heads * patches**2, queries.device):
            self._add(block, queries[part], keys[part, :, self.prefix :])
        self.images[block] += len(queries)

    def as_plain(self) -> dict[str, str | list[list[float]]]:
        """``unit``, and for ``patches`` and each token a list a block of the heads' means; empty before an image."""
        if not self.sums:
            return {}
        means = [
            {name: (total.cpu() / images).tolist() for name, total in sums.items()}
            for images, sums in zip(self.images, self.sums, strict=True)
        ]
        return {"unit": "pixels", **{name: [block[name] for block in means] for name in (*self.tokens, "patches")}}

    def _add(self, block: int, queries: Tensor, keys: Tensor) -> None:
        of_patches = attention_weights(queries[:, :, self.prefix :], keys)
        added = {"patches": _mean_distance(of_patches, self.distances)}
        for name, row in self.tokens.items():
            of_token = attention_weights(queries[:, :, row : row + 1], keys).squeeze(2)
            added[name] = _spread(of_token, self.distances)
        self.sums[block] = {name: total + added[name] for name, total in self.sums[block].items()}


def patch_distances(grid: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """Distances between the centres of patches, in pixels, patches row by row: [P, P].

    Args:
        grid: rows and columns of patches.
        patch: height and width of a patch, in pixels.
    """
    (rows, columns), (height, width) = grid, patch
    centres = torch.cartesian_prod(torch.arange(rows) * float(height), torch.arange(columns) * float(width))
    return torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")  # by products, 0 is not 0


def _mean_distance(weights: Tensor, distances: Tensor) -> Tensor:
    """weights: [B, H, P, P] -> sum over images of the mean over patches that ask, [H], in float64."""
    images, heads, patches, _ = weights.shape
    # One product of a matrix and a vector: nothing of the weights' size is written again.
    per_image = weights.view(images * heads, patches**2) @ distances.flatten()
    return per_image.view(images, heads).double().sum(dim=0) / patches


def _spread(weights: Tensor, distances: Tensor) -> Tensor:
    """weights: [B, H, P] -> sum over images of the mean distance of two draws, [H], in float64."""
    return ((weights @ distances) * weights).sum(dim=-1).double().sum(dim=0)


def _parts(images: int, weights_each: int, device: torch.device) -> list[slice]:
    """A batch in parts whose attention is held at once."""
    at_once = _WEIGHTS_AT_ONCE_CPU if device.type == "cpu" else _WEIGHTS_AT_ONCE
    size = max(1, at_once // weights_each)
    return [slice(start, start + size) for start in range(0, images, size)]
