"""What an exported file says of itself: strings alone, which every format can carry."""

import json
from typing import Any

from deitlt.checkpoints.card import ModelCard

# Of a card, what is nobody's business but the trainer's: where the data lay.
_LEFT_OUT = ("data",)
GRAPH_INPUT = "pixels: float32 [batch, 3, {0}, {0}], RGB in [0, 1]; mean and std are applied inside"
WEIGHTS_INPUT = "float32 [batch, 3, {0}, {0}], RGB in [0, 1], then (pixels - mean) / std"
_WHOLE = "resize the whole picture to {0} x {0} pixels, bicubic"
_CENTRE = "resize the shorter side to {1} pixels, bicubic, and take the central {0} x {0}"


def export_metadata(card: ModelCard, outputs: tuple[str, ...], inside: bool) -> dict[str, str]:
    """Class names, groups, normalisation, image size and the model's making, each value as JSON.

    Args:
        card: the checkpoint's.
        outputs: names of the answers, in their order.
        inside: whether the file holds a graph that normalises by itself and scales its logits, or weights alone.

    Returns:
        'class_names', 'mean', 'std', 'image_size', 'crop_share', 'groups', 'counts', 'model', ... -> JSON, with
        'input' and 'view' saying in words what an image must be made into.
    """
    content: dict[str, Any] = {key: value for key, value in card.as_plain().items() if key not in _LEFT_OUT}
    if inside:
        del content["logit_scale"]  # it would be applied twice
    scaled = int(card.image_size / card.crop_share)  # as timm rounds
    content |= {
        "outputs": list(outputs),
        "input": (GRAPH_INPUT if inside else WEIGHTS_INPUT).format(card.image_size),
        "view": (_WHOLE if card.crop_share == 1 else _CENTRE).format(card.image_size, scaled),
    }
    return {key: json.dumps(value) for key, value in content.items()}
