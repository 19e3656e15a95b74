"""What makes the views of a data module, once it is known how large and how normalised they are to be."""

from typing import Protocol

from deitlt.data.feeds import BatchView
from deitlt.data.loading import View
from deitlt.types import Normalisation


class ViewFactory(Protocol):
    """Makes a view of a given size and normalisation."""

    def __call__(self, image_size: int, normalisation: Normalisation) -> View | BatchView:
        """The view of a picture -> [3, image_size, image_size] or several such, or that of a batch on its device."""
        ...


class EvaluationFactory(Protocol):
    """Makes the view that images are evaluated on."""

    def __call__(self, image_size: int, normalisation: Normalisation) -> View:
        """The view of a picture -> [3, image_size, image_size]."""
        ...
