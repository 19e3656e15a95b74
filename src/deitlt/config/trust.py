"""What a configuration that comes from a file may call. No torch here."""

from collections.abc import Mapping
from typing import Any

from deitlt.errors import ConfigError

# Our own public names and optimizers; one name deep, so that no module's imports can be reached through it.
MODULES = (
    *("deitlt.data", "deitlt.losses", "deitlt.models", "deitlt.modules", "deitlt.optim", "deitlt.transforms"),
    *("deitlt.callbacks", "lightning.pytorch.callbacks", "torch.optim"),
)
FUNCTIONS = ("timm.optim.create_optimizer_v2",)


def is_allowed(target: str) -> bool:
    """Whether a `_target_` of a run's or checkpoint's own configuration may be called."""
    module, _, name = target.rpartition(".")
    return target in FUNCTIONS or (module in MODULES and name.isidentifier() and not name.startswith("_"))


def refuse_strange_targets(node: Any, where: str) -> None:
    """Raise ConfigError where a configuration from the file `where` would call anything but what is allowed."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not is_allowed(str(target)):
            raise ConfigError(f"{where} wants to call {target!r}, and was refused; remove that line from it.")
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for child in children:
        refuse_strange_targets(child, where)
