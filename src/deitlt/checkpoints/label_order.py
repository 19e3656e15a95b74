"""In which order a network answers its classes, and how its answers come into the order of the data.

Data of published lists are put in order of their counts, but PaCo's teachers of ImageNet-LT and iNaturalist
answer in the data set's original order. Whoever forgets that teaches a student noise.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deitlt.checkpoints.stored import StoredNetwork
from deitlt.errors import CheckpointError, ConfigError, nearest

CHOICES = ("auto", "original", "sorted")


def order_by_name(known: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Where among the known classes each wanted one stands; None if they are not the same classes.

    Names that two classes share tell nothing of an order: such lists must be equal.
    """
    if list(known) == list(wanted):
        return list(range(len(known)))
    places = {name: place for place, name in enumerate(known)}
    if not len(known) == len(wanted) == len(places) or set(places) != set(wanted):
        return None
    return [places[name] for name in wanted]


def foreign_order(stored: StoredNetwork, labels: Sequence[int], choice: str, key: str) -> list[int]:
    """Where each class of the data stands among the answers of a network whose file does not say.

    Args:
        stored: the network.
        labels: the data set's own label of each class.
        choice: 'sorted' as the data are, 'original' as the data set's labels are, or 'auto', the custom of
            the published files: PaCo's teachers in the original order, LDAM's and students sorted.
        key: what the user types to choose, for messages.

    Raises:
        ConfigError: for another choice.
        CheckpointError: if the original labels are no order of the classes.
    """
    if choice not in CHOICES:
        raise ConfigError(f"{key}={choice} is no choice; {nearest(choice, CHOICES)}")
    if choice == "sorted" or (choice == "auto" and stored.layout != "paco"):
        return list(range(len(labels)))
    if sorted(labels) != list(range(len(labels))):
        raise CheckpointError(
            f"{stored.path} may answer in the order of the data set's own labels, but here these go from "
            f"{min(labels)} to {max(labels)} for {len(labels)} classes; type {key}=sorted."
        )
    return list(labels)


def as_index(order: Sequence[int]) -> Tensor | None:
    """An order of classes as what picks columns of logits [B, C]: [C]; None if it would change nothing."""
    return None if list(order) == list(range(len(order))) else torch.tensor(order)
