"""The data of a checkpoint's card, opened without calling anything that the card names."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from deitlt.data import LongTailDataModule

# What of a data module is the verb's or the network's, not the data set's.
_OF_OTHERS = (
    *("self", "image_size", "statistics", "view", "evaluation", "mixing", "sampler", "drop_last", "labeller"),
    *("teacher_sees", "batch_size", "eval_batch_size", "num_workers", "watched", "seed", "verify"),
    *("resident", "decoder"),
)
DATA_KEYS = tuple(key for key in signature(LongTailDataModule.__init__).parameters if key not in _OF_OTHERS)


def known_data(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Those values of a configuration that say which images a data set has: taken by name, none is resolved."""
    return {key: value for key, value in configuration.items() if key in DATA_KEYS}


def open_card_data(configuration: Mapping[str, Any], **options: Any) -> LongTailDataModule:
    """The data of a card or recipe.

    Args:
        configuration: as a card holds it.
        options: further arguments of the data module.

    Raises:
        DataError: if the data cannot be read.
    """
    return LongTailDataModule(**known_data(configuration), **options)
