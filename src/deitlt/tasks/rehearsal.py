"""Make everything of a stage once, before anything is written: the student's turn may come hours later."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from deitlt.errors import ConfigError, UserError
from deitlt.tasks.building import build_callbacks, build_data, build_module, initialise_student
from deitlt.tasks.stage import LAST
from deitlt.tasks.stage_config import StageConfig
from deitlt.types import DataInfo


def rehearse(stage: StageConfig, info: DataInfo) -> None:
    """Make the stage's views, network, optimiser and callbacks, and throw them away.

    Raises:
        ConfigError: if one of them cannot be made of its settings.
    """
    with _as_user_error(stage.name), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a setting that is refused; of one that is not, training warns again
        datamodule = build_data(stage)
        datamodule.train_dataloader()
        datamodule.test_dataloader()
        if datamodule.mixing_factory is not None:
            datamodule.mixing_factory(info.num_classes)
        module = build_module(stage, info)
        if not (Path(stage.folder) / LAST).exists():  # what is resumed has its weights
            initialise_student(stage, module)
        module.configure_optimizers()
        build_callbacks(stage, info, Console(quiet=True))


@contextmanager
def _as_user_error(stage: str) -> Iterator[None]:
    """What timm or torch say of a setting, in one sentence; nothing but settings has gone in so far."""
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, ArithmeticError) as error:
        text = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"The {stage} cannot be built as configured ({text}); type deitlt train --cfg job to see its settings."
        ) from error
