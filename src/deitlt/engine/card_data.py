"""The data of a checkpoint's card, opened without calling anything that the card names."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from deitlt.data import DataRequest, LongTailDataModule, SplitOptions

# What says which images a data set has; the rest of a data module is the verb's or the network's.
DATA_KEYS = (*(field.name for kind in (DataRequest, SplitOptions) for field in fields(kind)), "on_broken")


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
    return LongTailDataModule.from_keys(**known_data(configuration), **options)
