"""Which parameters weight decay leaves alone."""

from collections.abc import Callable
from typing import Any

from timm.optim import param_groups_weight_decay
from torch import nn

ParameterGroups = list[dict[str, Any]]


def weight_decay_groups(network: nn.Module, weight_decay: float) -> ParameterGroups:
    """Two parameter groups: decayed matrices; biases, norms and what the network names, not decayed.

    Args:
        network: names parameters to spare by a method `no_weight_decay()`, as timm's models do (tokens
            and position embedding of a transformer).
        weight_decay: for the first group.
    """
    spared: Callable[[], set[str]] = getattr(network, "no_weight_decay", set)
    groups: ParameterGroups = param_groups_weight_decay(
        network, weight_decay, no_weight_decay_list=tuple(spared())
    )
    return groups
