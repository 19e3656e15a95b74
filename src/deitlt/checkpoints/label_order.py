"""In which order a network answers its classes, and how its answers come into the order of the data.

Data of published lists are put in order of their counts. PaCo's teachers of ImageNet-LT and iNaturalist answer
in the data set's original order, the authors' other networks in an order by count whose many ties fall otherwise
than ours. Whoever forgets that teaches a student noise.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deitlt.checkpoints.stored import StoredNetwork
from deitlt.errors import CheckpointError, ConfigError, nearest
from deitlt.types import DataInfo

CHOICES = ("auto", "original", "authors", "sorted")


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


def foreign_order(stored: StoredNetwork, info: DataInfo, choice: str, key: str) -> list[int]:
    """Where each class of the data stands among the answers of a network whose file does not say.

    Args:
        stored: the network.
        info: the data's labels, in their order and in the authors'.
        choice: 'sorted' as the data are, 'original' as the data set's labels are, 'authors' by count with the
            ties of the authors' code, or 'auto', the custom of the published files: PaCo's teachers in the
            original order, LDAM's teachers and the students in the authors'.
        key: what the user types to choose, for messages.

    Raises:
        ConfigError: for another choice.
        CheckpointError: if the original labels are no order of the classes.
    """
    if choice not in CHOICES:
        raise ConfigError(f"{key}={choice} is no choice; {nearest(choice, CHOICES)}")
    if choice == "auto":
        choice = "original" if stored.layout == "paco" else "authors"
    if choice == "sorted" or (choice == "authors" and not info.authors_labels):
        return list(range(info.num_classes))
    if choice == "authors":
        places = {label: place for place, label in enumerate(info.authors_labels)}
        return [places[label] for label in info.labels]
    if sorted(info.labels) != list(range(info.num_classes)):
        raise CheckpointError(
            f"{stored.path} may answer in the order of the data set's own labels, but here these go from "
            f"{min(info.labels)} to {max(info.labels)} for {info.num_classes} classes; type {key}=sorted."
        )
    return list(info.labels)


def as_index(order: Sequence[int]) -> Tensor | None:
    """An order of classes as what picks columns of logits [B, C]: [C]; None if it would change nothing."""
    return None if list(order) == list(range(len(order))) else torch.tensor(order)
