"""Optimisers that update all weights in one kernel, where they have one."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from timm.optim import create_optimizer_v2, get_optimizer_class
from torch.optim import Optimizer

Factory = Callable[..., Optimizer]


def fused(factory: Factory) -> Factory:
    """The factory with `fused=True` where its optimiser knows that word, as torch's AdamW and SGD do; else as it is.

    The update is the same up to rounding. A factory that says something of `fused` or `foreach` keeps it.

    Args:
        factory: what Hydra makes of an optimiser's node: a `partial` of timm's factory, or of an optimiser.
    """
    if not isinstance(factory, partial) or {"fused", "foreach"} & set(factory.keywords):
        return factory
    optimizer = _optimizer_of(factory)
    return partial(factory, fused=True) if "fused" in signature(optimizer).parameters else factory


def _optimizer_of(factory: "partial[Any]") -> Callable[..., Any]:
    """The optimiser's class; timm's factory knows it by a name."""
    if factory.func is not create_optimizer_v2:
        made: Callable[..., Any] = factory.func
        return made
    found: Callable[..., Any] = get_optimizer_class(factory.keywords.get("opt", "sgd"), bind_defaults=False)
    return found
