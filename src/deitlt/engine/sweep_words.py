"""Words as Hydra reads them back."""

import re
from typing import Any

_PLAIN = re.compile(r"(?!(null|true|false|inf|nan)$)[a-z_][\w./-]*", re.IGNORECASE | re.ASCII)  # needs no quotes


def quoted(value: object) -> str:
    """A value in quotes, whatever is in it."""
    text = str(value).replace("'", "\\'")
    return f"'{text}'"


def literal(value: Any) -> str:
    """A plain value of a configuration, null, lists and dictionaries included, as an override gives it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{literal(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(literal, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else quoted(value)
    return "null" if value is None else str(value)
