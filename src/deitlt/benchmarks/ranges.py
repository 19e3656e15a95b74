"""Names the parts of a training step for torch's profiler, in words that a reader of its results understands."""

from collections.abc import Callable
from typing import Any

from timm.layers import Mlp, PatchEmbed
from timm.models.vision_transformer import Attention
from torch import nn
from torch.profiler import record_function

from deitlt.data import LongTailDataModule
from deitlt.models import CosineLinear
from deitlt.modules import ClassifierModule

PREFIX = "deitlt: "
REST = "everything else"
# What has no range inside another of these: an attention's matrix products are attention.
_LAYERS: tuple[tuple[type[nn.Module], str], ...] = (
    (Attention, "attention"),
    (Mlp, "MLP"),
    (PatchEmbed, "patch embedding"),
    (nn.LayerNorm, "layer norms"),
    (nn.modules.batchnorm._BatchNorm, "batch norms"),
    (nn.Conv2d, "convolutions"),
    (nn.Linear, "classifiers"),
    (CosineLinear, "classifiers"),
)


def name_parts(module: ClassifierModule, datamodule: LongTailDataModule, layers: bool) -> None:
    """Mark views, mixing, the teacher, the loss and, from now on, each kind of layer.

    Args:
        module: the stage's.
        datamodule: the stage's.
        layers: mark layers, too; a compiled network has none that could be told apart.
    """
    if layers:
        _name_layers(module.network)
    _name_module(module.loss, "loss")  # type: ignore[arg-type]
    if datamodule.labeller is not None:
        datamodule.labeller = named("teacher's forward", datamodule.labeller)
    _replace(datamodule, "complete", named("mixing", datamodule.complete))
    make_feed = datamodule.feed

    def feed() -> Any:
        made = make_feed()
        _replace(made, "finish", named("views", made.finish))
        return made

    _replace(datamodule, "feed", feed)
    _replace(module, "training_step", named(REST, module.training_step))


def named(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, its time counted under a name."""

    def run(*arguments: Any, **options: Any) -> Any:
        with record_function(f"{PREFIX}{name}"):
            return work(*arguments, **options)

    return run


def _replace(owner: Any, name: str, work: Callable[..., Any]) -> None:
    """Give one object a function of its own in place of its class's."""
    setattr(owner, name, work)


def _name_layers(module: nn.Module) -> None:
    for kind, name in _LAYERS:
        if isinstance(module, kind):
            _name_module(module, name)
            return
    for child in module.children():
        _name_layers(child)


def _name_module(module: nn.Module, name: str) -> None:
    _replace(module, "forward", named(name, module.forward))
