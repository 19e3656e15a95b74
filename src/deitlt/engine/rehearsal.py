"""Make everything of a stage once, before anything is written: the student's turn may come hours later."""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from rich.console import Console

from deitlt.engine.building import build_data, build_module, initialise_student
from deitlt.engine.stage import LAST
from deitlt.engine.stage_config import StageConfig
from deitlt.engine.trainer import build_callbacks
from deitlt.errors import ConfigError, UserError
from deitlt.types import DataInfo

UNEXPECTED = re.compile(r"(?P<maker>\w+?)(\.__init__)?\(\) got an unexpected keyword argument '(?P<argument>\w+)'")


def rehearse(stage: StageConfig, info: DataInfo) -> None:
    """Make the stage's views, network, optimiser and callbacks, and throw them away.

    Raises:
        ConfigError: if one of them cannot be made of its settings.
    """
    with _as_user_error(stage), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a setting that is refused; of one that is not, training warns again
        datamodule = build_data(stage)
        datamodule.check_cache(torch.device("cuda" if stage.trainer["accelerator"] == "gpu" else "cpu"))
        datamodule.train_dataloader()
        datamodule.test_dataloader()
        if datamodule.mixing_factory is not None:
            datamodule.mixing_factory(info.num_classes)
        module = build_module(stage, info)
        if not is_begun(stage):
            initialise_student(stage, module)
        module.configure_optimizers()
        build_callbacks(stage, info, Console(quiet=True))


def is_begun(stage: StageConfig) -> bool:
    """Whether the stage is resumed: then it has weights of its own to go on with."""
    return (Path(stage.folder) / LAST).exists()


@contextmanager
def _as_user_error(stage: StageConfig) -> Iterator[None]:
    """What timm or torch say of a setting, in one sentence; nothing but settings has gone in so far."""
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, ArithmeticError, InstantiationException) as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        text = " ".join(str(error).split()).rstrip(".")
        if key := _left_over(text, stage):
            raise ConfigError(
                f"{key} is nothing that the chosen {key.rpartition('.')[0]} has; type ~{key} to take away what the "
                "recipe or an override set, or leave the choice as the recipe has it."
            ) from error
        raise ConfigError(
            f"The {stage.name} cannot be built as configured ({text}); type deitlt train --cfg job to see its settings."
        ) from error


def _left_over(text: str, stage: StageConfig) -> str | None:
    """The key of an argument that what it was given to does not take: a recipe's delta met another choice."""
    if (found := UNEXPECTED.search(text)) is None:
        return None
    keys = [key for key in _keys_of(stage.recipe, found["maker"]) if key.endswith(f".{found['argument']}")]
    return f"{stage.kind}{keys[0]}" if keys else None


def _keys_of(node: Any, maker: str, prefix: str = "") -> Iterator[str]:
    """The keys, from the recipe on, of every node that calls a maker of that name."""
    if not isinstance(node, Mapping):
        return
    called = str(node.get("_target_", "")).endswith(f".{maker}")
    for name, value in node.items():
        if called:
            yield f"{prefix}.{name}"
        yield from _keys_of(value, maker, f"{prefix}.{name}")
