"""DeiT-LT: vision transformers trained from scratch on long-tailed images (CVPR 2024).

From Python: ``train(experiment="digits", out="run")`` and ``load("run").predict("photographs")``; see `deitlt.api`.
They are loaded when they are asked for, so that the command line answers a typo at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deitlt.api import evaluate, inspect, load, train

__version__ = "0.1.0"
__all__ = ["evaluate", "inspect", "load", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'deitlt' has no attribute {name!r}")
    return getattr(importlib.import_module("deitlt.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
