"""Two different views of one picture, as contrastive teachers learn from."""

from typing import Protocol

from deitlt.transforms.limits import check_probabilities
from deitlt.transforms.several import SeveralViews, View
from deitlt.types import Normalisation


class PairedFactory(Protocol):
    """Makes one view of a pair, of a given size and normalisation."""

    def __call__(self, image_size: int, normalisation: Normalisation, *, padding: int, flip: float) -> View:
        """The view: a picture -> [3, image_size, image_size]."""
        ...


def paired_view(
    image_size: int,
    normalisation: Normalisation,
    first: PairedFactory,
    second: PairedFactory,
    padding: int = 4,
    flip: float = 0.5,
) -> SeveralViews:
    """A pair of views: PaCo's query encoder sees the first, its key encoder the second.

    Cui et al., "Parametric Contrastive Learning", ICCV 2021, section 4.1: the first is a classifier's strong
    augmentation, the second SimCLR's.

    Args:
        image_size: pixels a side of both.
        normalisation: statistics that both are normalised with.
        first: makes the first view.
        second: makes the second.
        padding: pixels on each side before a padded crop, in both.
        flip: probability of a horizontal flip, in both: it is the data that may be mirrored or not.

    Returns:
        A function from a picture to two tensors [3, image_size, image_size].
    """
    check_probabilities("teacher.views.train", flip=flip)
    query = first(image_size, normalisation, padding=padding, flip=flip)
    key = second(image_size, normalisation, padding=padding, flip=flip)
    return SeveralViews((query, key))
