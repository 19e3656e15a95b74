"""What of a PaCo teacher answers images: its query encoder's CNN under the class centres, which is a plain teacher."""

from dataclasses import replace

from torch import Tensor, nn

from deitlt.checkpoints.card import ModelCard
from deitlt.models import PaCoNetwork, create_teacher


def as_plain_teacher(network: PaCoNetwork, card: ModelCard) -> tuple[nn.Module, ModelCard]:
    """The CNN of PaCo's query encoder with the class centres as its classifier, and a card that says so.

    Key encoder, projections and queue serve training alone. The result has the names that timm gives such a CNN.

    Args:
        network: a trained pair of encoders.
        card: its checkpoint's.
    """
    plain = create_teacher(len(card.class_names), card.model["name"])
    weights: dict[str, Tensor] = dict(network.encoder_q.backbone.state_dict())
    lacking = [name for name in plain.state_dict() if name not in weights]
    centres = {"weight": network.linear.weight, "bias": network.linear.bias}
    weights |= {name: centres[name.rpartition(".")[2]] for name in lacking}
    plain.load_state_dict(weights)
    model = {"name": card.model["name"], "head": "linear"}
    return plain.eval(), replace(card, maker="create_teacher", model=model)
