"""Configuration: what there is to set, how Hydra composes it, and what is said of a wrong word. No torch here."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

Content = Mapping[str, Any]  # of a file or node: plain dicts, lists and values; nothing is resolved


@cache
def config_dir() -> Path:
    """The folder of the configurations: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parents[1] / "conf"


def merged(below: Content, above: Content) -> Content:
    """The keys of two nodes; where both have one, the value of `above`."""
    both = [key for key in above if isinstance(above[key], Mapping) and isinstance(below.get(key), Mapping)]
    return {**below, **above, **{key: merged(below[key], above[key]) for key in both}}
