"""How the schema says what a key is, and how it is walked: `key`, `part`, and `Key`. No torch here."""

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING

KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", list: "list", dict: "keys"}
_RULE = "rule"


@dataclass(frozen=True)
class Rule:
    """What a key means and may be, beside its type.

    unit: of a number. choices: of a text, or of each text of a list. optional: whether the key itself may be absent.
    path: whether a text names a file or folder. parts: the classes that describe what may be instantiated here.
    """

    meaning: str
    unit: str = ""
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    optional: bool = False
    path: bool = False
    parts: tuple[type, ...] = ()

    @property
    def said(self) -> str:
        """The meaning with the unit before it."""
        return f"{self.unit} {self.meaning}".strip()

    @property
    def range(self) -> str:
        """The range in words; empty where there is none."""
        low = f"{self.at_least:g} or more" if self.at_least is not None else ""
        low = f"above {self.above:g}" if self.above is not None else low
        high = f"at most {self.at_most:g}" if self.at_most is not None else ""
        high = f"below {self.below:g}" if self.below is not None else high
        return " and ".join(part for part in (low, high) if part)

    def allows(self, number: float) -> bool:
        """Whether a number is within the range."""
        return (
            (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )


def key(meaning: str, unit: str = "", **rule: Any) -> Any:
    """A field of the schema: what it means, its unit, and what else of `Rule` holds for it."""
    return field(default=MISSING, metadata={_RULE: Rule(meaning, unit, **rule)})


def part(meaning: str, *parts: type, optional: bool = False) -> Any:
    """A field that holds what is instantiated: one of `parts` by its `_target_`, or an object of the user's own."""
    return field(default=MISSING, metadata={_RULE: Rule(meaning, parts=parts, optional=optional)})


@dataclass(frozen=True)
class Key:
    """A key of the schema: its dotted name, its type, its rule, and the class whose field it is."""

    name: str
    hint: Any
    rule: Rule
    owner: type

    @property
    def last(self) -> str:
        """The last word of the name."""
        return self.name.rpartition(".")[2]

    @property
    def types(self) -> tuple[type, ...]:
        """The plain types that the value may have; a list of anything is a list."""
        known = [hint for hint in _alternatives(self.hint) if hint is not type(None)]
        return tuple(get_origin(hint) or hint for hint in known)

    @property
    def nullable(self) -> bool:
        """Whether null may stand for it."""
        return type(None) in _alternatives(self.hint)

    @property
    def node(self) -> type | None:
        """The class of the keys below it; None of a leaf, and of what is instantiated."""
        return next((hint for hint in self.types if is_dataclass(hint)), None)

    @property
    def is_leaf(self) -> bool:
        """Whether it holds a value, and no keys."""
        return self.node is None and not self.rule.parts

    @property
    def kind(self) -> str:
        """The type in words, with choices, unit and range."""
        null = " or null" if self.nullable else ""
        if not self.is_leaf:
            return f"keys{null}"
        kinds = [words for kind, words in KINDS.items() if kind in self.types and not (kind is str and self._names)]
        said = " or ".join([*kinds, *([] if list in self.types else self._names)])
        if list in self.types and self._names:
            said = f"list of {' | '.join(self.rule.choices)}"
        elif kinds == [] and len(self._names) > 1:
            said = " | ".join(self._names)
        unit = f" of {self.rule.unit}" if self.rule.unit else ""
        limits = f", {self.rule.range}" if self.rule.range else ""
        return f"{said}{unit}{limits}{null}"

    @property
    def _names(self) -> tuple[str, ...]:
        return () if self.rule.path else self.rule.choices

    @property
    def example(self) -> str:
        """A value that would be right."""
        if self.rule.path:
            return "FILE" if "file" in self.rule.meaning else "FOLDER"
        if list in self.types:
            return f"[{','.join(self.rule.choices[:2]) or 'VALUE,VALUE'}]"
        if self.rule.choices:
            return self.rule.choices[0]
        if bool in self.types:
            return "true"
        if int in self.types:
            return f"{max(1, self.rule.at_least or 1):g}"
        return "0.1" if float in self.types else "TEXT"


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


@cache
def keys_of(cls: type, prefix: str = "") -> dict[str, Key]:
    """The keys of a class of the schema by their own names; not those below them."""
    hints = get_type_hints(cls)
    assert is_dataclass(cls)
    return {f.name: Key(f"{prefix}{f.name}", hints[f.name], f.metadata[_RULE], cls) for f in fields(cls)}


def target_of(cls: type) -> str:
    """What is called where the class describes a node."""
    target: str = getattr(cls, "target", "")
    return target


def walk(cls: type, prefix: str = "") -> Iterator[Key]:
    """Every key of a class, and those below; where one of several parts may stand, the keys of all of them."""
    for found in keys_of(cls, prefix).values():
        yield found
        below: Sequence[type] = found.rule.parts or ([found.node] if found.node else [])
        for inner in below:
            yield from walk(inner, f"{found.name}.")
