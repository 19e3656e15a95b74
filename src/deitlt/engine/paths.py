"""The files that a run's configuration names, and how a run keeps them."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from deitlt.checkpoints import TIMM, WANDB
from deitlt.data.class_order import CLASS_ORDERS

PATHS = (
    *("data.root", "data.train_csv", "data.test_csv", "data.train_list", "data.test_list", "data.class_order"),
    *("teacher.checkpoint", "student.checkpoint", "student.init", "student.teacher_view.store"),
)


def make_absolute(config: DictConfig) -> None:
    """Make them absolute, so that the run can be resumed and its checkpoints evaluated from another folder.

    Args:
        config: the run's, or a part of it; changed in place. Names that are no files stay.
    """
    for key in PATHS:
        value = OmegaConf.select(config, key)
        if value is not None and not _is_name(key, str(value)):
            OmegaConf.update(config, key, str(Path(value).expanduser().absolute()))


def _is_name(key: str, value: str) -> bool:
    """Whether it is timm's, Weights & Biases' or an order's own name."""
    return value.startswith((TIMM, WANDB)) or (key == "data.class_order" and value in CLASS_ORDERS)
