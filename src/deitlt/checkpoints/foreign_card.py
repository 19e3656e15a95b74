"""A card for a network whose file has none: what it does not say is taken from a recipe."""

from typing import Any

from deitlt.checkpoints.card import ModelCard
from deitlt.checkpoints.stored import StoredNetwork
from deitlt.errors import CheckpointError
from deitlt.types import DataInfo, Normalisation


def foreign_card(
    stored: StoredNetwork,
    info: DataInfo,
    image_size: int,
    normalisation: Normalisation,
    crop_share: float,
    logit_scale: float,
    data: dict[str, Any],
) -> ModelCard:
    """What a checkpoint of ours would say, with the classes in the order of the data.

    Args:
        stored: the network, whose own image size goes before the recipe's.
        info: what the data are.
        image_size: pixels a side of the network's input.
        normalisation: statistics of its input.
        crop_share: of the evaluation view.
        logit_scale: of a cosine head.
        data: the configuration of the data, plain values.

    Raises:
        CheckpointError: if the network knows another number of classes.
    """
    if stored.num_classes != info.num_classes:
        raise CheckpointError(
            f"{stored.path} knows {stored.num_classes} classes, but the data have {info.num_classes}; "
            "type experiment=NAME, the recipe of the data that it was trained on."
        )
    return ModelCard(
        kind=stored.kind,
        maker=stored.maker,
        model=stored.model,
        image_size=stored.model.get("image_size", image_size),
        mean=list(normalisation.mean),
        std=list(normalisation.std),
        crop_share=crop_share,
        logit_scale=logit_scale if stored.model.get("head") == "cosine" else 1.0,
        protocol="",
        class_names=list(info.class_names),
        labels=list(info.labels),
        authors_labels=list(info.authors_labels),
        counts=list(info.counts),
        groups={name: list(classes) for name, classes in info.groups.items()},
        data=data,
    )
