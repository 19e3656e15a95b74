"""What a recipe says of a network whose file says nothing: its input, its scale, its classes."""

from collections.abc import Mapping
from typing import Any

from deitlt.checkpoints import ModelCard, StoredNetwork, foreign_card
from deitlt.data import LongTailDataModule
from deitlt.transforms import IMAGENET

LDAM_SCALE = 30.0  # of the published cosine classifiers (Cao et al., 2019), where a recipe has no LDAM loss


def card_by_recipe(
    stored: StoredNetwork, recipe: Mapping[str, Any], datamodule: LongTailDataModule, data: dict[str, Any]
) -> ModelCard:
    """A card for a file without one.

    Args:
        stored: the network in the file.
        recipe: the node `teacher` or `student` of the configuration that it was trained with, or like.
        datamodule: the data that it was trained on.
        data: their configuration, plain values.

    Raises:
        CheckpointError: if the network knows another number of classes than the data.
    """
    return foreign_card(
        stored,
        datamodule.info,
        image_size=recipe["image_size"],
        normalisation=IMAGENET if recipe["statistics"] == "imagenet" else datamodule.spec.normalisation,
        crop_share=recipe["transforms"]["evaluation"]["crop_share"],
        logit_scale=float(recipe["loss"].get("scale", LDAM_SCALE)),
        data=data,
    )
