"""A student of ours in the layout of DeiT-LT's authors, which timm and their evaluation read."""

from collections.abc import Sequence
from typing import Any

from deitlt.checkpoints.foreign_students import INNER
from deitlt.checkpoints.stored import Weights
from deitlt.models import StudentNetwork


def authors_student_state(
    student: StudentNetwork, average: StudentNetwork | None = None, order: Sequence[int] | None = None
) -> dict[str, Any]:
    """What `torch.save` is to write: `model` by timm's names, and `model_ema` where an average is given.

    No shape tells the number of attention heads, so `heads` says it, for readers that ask; the authors' and
    timm's take one for 64 of width, which holds for every DeiT.

    Args:
        student: the network.
        average: its moving average.
        order: which class of the student is to be answered at each place; None leaves its order.
    """
    attention: Any = student.vit.blocks[0].attn
    content: dict[str, Any] = {"model": _by_timms_names(student, order), "heads": int(attention.num_heads)}
    return content if average is None else content | {"model_ema": _by_timms_names(average, order)}


def _by_timms_names(student: StudentNetwork, order: Sequence[int] | None) -> Weights:
    weights = {
        name.removeprefix(INNER): value.detach().cpu().clone()
        for name, value in student.state_dict().items()
        if name.startswith(INNER)
    }
    if order is not None:
        weights |= {name: value[list(order)] for name, value in weights.items() if name.startswith("head")}
    return weights
