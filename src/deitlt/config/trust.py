"""What a configuration may call: our parts, known libraries', plugins', and what is trusted by the words typed now.

What a file says of itself never counts, not even its own `trust`. No torch here.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from inspect import isclass, isfunction
from pathlib import Path
from types import ModuleType
from typing import Any

from deitlt.config.keys import walk
from deitlt.config.schema import Train
from deitlt.errors import ConfigError, nearest

# Public names of these modules, one name deep, so that no module's imports can be reached through it. None of them
# reads a file that may run code: timm.create_model and torch.load do, and are not here.
MODULES = (
    *("deitlt.data", "deitlt.losses", "deitlt.models", "deitlt.modules", "deitlt.optim", "deitlt.transforms"),
    *(
        "deitlt.callbacks",
        "lightning.pytorch.callbacks",
        "torch.optim",
        "torch.nn",
        "torchvision.transforms.v2",
        "timm.loss",
    ),
)
FUNCTIONS = ("timm.optim.create_optimizer_v2",)
GROUP = "deitlt.plugins"  # the entry points by which an installed package says that it holds parts
# Packages that hold more than parts: to trust the whole of one would be to call anything.
NEVER = frozenset(
    {*sys.stdlib_module_names, "deitlt", "torch", "torchvision", "timm", "lightning", "hydra", "omegaconf"}
)
_typed: list[str] = []


def trust(names: Sequence[str], folders: Sequence[str] = ()) -> None:
    """Let configurations and checkpoints call the parts of these modules from now on, and import them.

    Args:
        names: what was typed as trust=[...], in place of what was trusted before.
        folders: the user's own of configurations; one with a module of such a name joins `sys.path`, which the ranks
            and workers that are started inherit.

    Raises:
        ConfigError: a module is not there, is no one's own, or fails to import; so does a plugin.
    """
    _typed[:] = []
    for name in names:
        root = name.partition(".")[0]
        if root in NEVER or not _is_public(name):
            raise ConfigError(f"trust=[{name}] is no module of your own; type trust=[MODULE] with the name of yours.")
        for folder in folders:
            holds = any((Path(folder) / place).exists() for place in (f"{root}.py", root))
            if holds and folder not in sys.path:
                sys.path.append(folder)
        if find_spec(root) is None:
            raise ConfigError(
                f"trust=[{name}] is no module that can be found; type --config-dir DIR with the folder of {root}.py, "
                f"or install the package {root}."
            )
        _imported(name, f"trust=[{name}]", "or leave it out")
        _typed.append(name)
    plugins()


@contextmanager
def for_this_call() -> Iterator[None]:
    """Trust nothing of before in the block, and afterwards nothing of what was trusted in it; a decorator, too."""
    before, _typed[:] = _typed[:], []
    try:
        yield
    finally:
        _typed[:] = before


@cache
def plugin_folders() -> tuple[Path, ...]:
    """The folders `conf` of the plugins that have one, whose files are choices like ours; imports no plugin."""
    specs = [find_spec(point.module.partition(".")[0]) for point in entry_points(group=GROUP)]
    places = [Path(place) / "conf" for spec in specs if spec for place in spec.submodule_search_locations or ()]
    return tuple(place for place in places if place.is_dir())


@cache
def plugins() -> tuple[str, ...]:
    """The packages of the plugins that are installed, imported.

    Raises:
        ConfigError: one fails to import, or two have one name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise ConfigError(
                f"Two installed plugins are called {point.name!r}, of {other.value} and {point.value}; type pip "
                "uninstall with the package of one of them."
            )
    for name, point in found.items():
        _imported(point.module, f"The plugin {name!r}", f"or type pip uninstall {_package(point)}")
    return tuple(point.module.partition(".")[0] for point in found.values())


def is_allowed(target: str) -> bool:
    """Whether a `_target_` of any configuration may be called."""
    module, _, name = target.rpartition(".")
    return target in FUNCTIONS or (module in MODULES and _is_public(name)) or is_own(target)


def is_own(target: str) -> bool:
    """Whether it is a public class or function that a trusted module or a plugin defines itself.

    Raises:
        ConfigError: a trusted module that would hold it fails to import.
    """
    module, _, name = target.rpartition(".")
    if not _is_trusted(target) or not _is_public(target):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:  # what lies between is no module of the package
        return False
    return (isclass(found) or isfunction(found)) and _is_trusted(f"{found.__module__}.")


def refuse_strange_targets(node: Any, where: str, *, resolved: bool = True) -> None:
    """Raise ConfigError where the configuration `where`, of a file or of this command, would call what it may not.

    Args:
        node: plain dicts, lists and values.
        where: for the sentence.
        resolved: whether nothing is left to resolve in it. Then an interpolation is a stranger's: what it would become
            when the node is instantiated was not looked at.
    """
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not is_allowed(str(target)):
            raise ConfigError(f"{where} wants to call {target!r}, and was refused; {advice(str(target))}")
    elif resolved and isinstance(node, str) and "${" in node:
        raise ConfigError(f"{where} has {node!r}, which deitlt does not write, and was refused; remove it from there.")
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for child in children:
        refuse_strange_targets(child, where, resolved=resolved)


def refuse_absent_targets(node: Any) -> None:
    """Raise ConfigError where a configuration would call what is not there; what the schema names is.

    Args:
        node: plain dicts, lists and values, with targets that may be called. Modules that others name are imported.
    """
    known = {target for key in walk(Train) for part in key.nodes for target in part.targets}
    for target in _targets(node):
        module, _, name = target.rpartition(".")
        if target not in known and not callable(getattr(importlib.import_module(module), name, None)):
            there = vars(sys.modules[module]).items()
            public = [found for found, value in there if callable(value) and is_allowed(f"{module}.{found}")]
            raise ConfigError(f"{target} is not there; {nearest(name, public, f'type another name of {module}.')}")


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping) and "_target_" in node:
        yield str(node["_target_"])
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for child in children:
        yield from _targets(child)


def advice(target: str, otherwise: str = "remove that line from it") -> str:
    """What to do about a target that may not be called, or `otherwise`; the end of a sentence."""
    root, _, name = target.rpartition(".")
    top = target.partition(".")[0]
    if _is_trusted(target):
        public = [found for found in vars(sys.modules.get(root, ModuleType(""))) if is_own(f"{root}.{found}")]
        return nearest(name, public, f"{top} has no public class or function of its own there.")
    if top in NEVER or not _is_public(target) or "." not in target:
        return f"{otherwise}."
    return f"type trust=[{top}] beside it where you know {top} and its author, or {otherwise}."


def _is_trusted(target: str) -> bool:
    return any(target.startswith(f"{name}.") for name in (*_typed, *plugins()))


def _is_public(dotted: str) -> bool:
    return all(name.isidentifier() and not name.startswith("_") for name in dotted.split("."))


def _package(point: EntryPoint) -> str:
    return point.module.partition(".")[0] if point.dist is None else point.dist.name


def _imported(name: str, who: str, otherwise: str) -> ModuleType:
    """A module of the user's.

    Raises:
        ConfigError: whatever went wrong in it, with the line.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        trace, place = error.__traceback__, ""
        while trace is not None:  # the innermost line that is not the import system's
            file = trace.tb_frame.f_code.co_filename
            place = (
                place if file.startswith("<") or file == importlib.__file__ else f" ({file}, line {trace.tb_lineno})"
            )
            trace = trace.tb_next
        if isinstance(error, SyntaxError):
            place = f" ({error.filename}, line {error.lineno})"
        text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split()).rstrip(".")
        raise ConfigError(
            f"{who} cannot be imported: {type(error).__name__}: {text}{place}; mend it, {otherwise}."
        ) from error
