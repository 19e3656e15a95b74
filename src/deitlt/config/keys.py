"""How the schema says what a key is, and how it is walked: `Node`, `key` and `Key`. No torch here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", list: "list", dict: "keys"}


class Node:
    """A node of the configuration: each annotated attribute that `key` makes is one of its keys.

    targets: what may be called there, where something is instantiated. is_open: whether it takes further keys.
    known: its keys by their own names, those of its bases first.
    """

    targets: ClassVar[tuple[str, ...]] = ()
    is_open: ClassVar[bool] = False
    known: ClassVar[dict[str, "Key"]] = {}

    def __init_subclass__(cls, target: str | tuple[str, ...] = (), is_open: bool = False) -> None:
        cls.targets = (target,) if isinstance(target, str) else target
        cls.is_open = is_open
        hints = {name: hint for name, hint in get_type_hints(cls).items() if name not in Node.__annotations__}
        cls.known = {name: replace(getattr(cls, name), hint=hint) for name, hint in hints.items()}


@dataclass(frozen=True)
class Key:
    """A key of the schema: what it means and may be.

    unit: of a number. choices: of a text, or of each text of a list. optional: whether the key itself may be absent.
    path: whether a text names a file or folder. name: dotted. hint: its type; of what holds keys the class that
    describes them, or several where one of several things may be instantiated there.
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
    name: str = ""
    hint: Any = None

    @property
    def types(self) -> tuple[type, ...]:
        """The plain types that the value may have; a list of anything is a list."""
        return tuple(get_origin(hint) or hint for hint in _alternatives(self.hint) if hint is not NoneType)

    @property
    def nullable(self) -> bool:
        """Whether null may stand for it."""
        return NoneType in _alternatives(self.hint)

    @property
    def nodes(self) -> tuple[type[Node], ...]:
        """The classes of the keys below it, one of which holds; none of a key that has a value."""
        return tuple(hint for hint in self.types if issubclass(hint, Node))

    @property
    def is_part(self) -> bool:
        """Whether it is instantiated, be it by an object of the user's own."""
        return any(node.targets for node in self.nodes)

    def accepts(self, value: Any) -> bool:
        """Whether a value has the right type, whatever its range."""
        hints = [hint for hint in _alternatives(self.hint) if hint is not NoneType]
        return any(_is(value, hint, alone=len(hints) == 1) for hint in hints)

    def allows(self, number: float) -> bool:
        """Whether a number is within the range."""
        return (
            (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )

    @property
    def range(self) -> str:
        """The range in words; empty where there is none."""
        ends = {
            "{} or more": self.at_least,
            "above {}": self.above,
            "at most {}": self.at_most,
            "below {}": self.below,
        }
        return " and ".join(words.format(end) for words, end in ends.items() if end is not None)

    @property
    def kind(self) -> str:
        """The type in words, with choices, unit and range."""
        null = " or null" if self.nullable else ""
        if self.nodes:
            return f"keys{null}"
        names = () if self.path else self.choices
        kinds = [words for kind, words in KINDS.items() if kind in self.types and not (kind is str and names)]
        if list in self.types and names:
            said = f"list of {' | '.join(names)}"
        else:
            said = " or ".join([*kinds, *names]) if kinds else " | ".join(names)
        unit = f" of {self.unit}" if self.unit else ""
        limits = f", {self.range}" if self.range else ""
        return f"{said}{unit}{limits}{null}"

    @property
    def example(self) -> str:
        """A value that would be right."""
        if self.path:
            return "FILE" if "file" in self.meaning else "FOLDER"
        if list in self.types:
            return f"[{','.join(self.choices[:2]) or 'VALUE,VALUE'}]"
        if self.choices:
            return self.choices[0]
        if bool in self.types:
            return "true"
        if int in self.types:
            return f"{max(1, self.at_least or 1):g}"
        return "0.1" if float in self.types else "TEXT"


def key(meaning: str, unit: str = "", **rule: Any) -> Any:
    """A key of a node: what it means, its unit, and what else of `Key` holds for it."""
    return Key(meaning, unit, **rule)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _is(value: Any, hint: Any, *, alone: bool = True) -> bool:
    """Whether a value is of a type; where text is all that may stand, a number or true is text."""
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_is(one, *get_args(hint)) for one in value)
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    if hint is str and alone:
        return value is not None and not isinstance(value, list | Mapping)
    return hint is Any or isinstance(value, get_origin(hint) or hint)


def keys_of(cls: type[Node], prefix: str = "") -> dict[str, Key]:
    """The keys of a node by their own names, with their dotted names in them; not those below them."""
    return {name: replace(key, name=f"{prefix}{name}") for name, key in cls.known.items()}


def walk(cls: type[Node], prefix: str = "") -> Iterator[Key]:
    """Every key of a node, and those below; where one of several parts may stand, the keys of all of them."""
    for found in keys_of(cls, prefix).values():
        yield found
        for node in found.nodes:
            yield from walk(node, f"{found.name}.")
