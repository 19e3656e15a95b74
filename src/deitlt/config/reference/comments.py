"""The comments of a configuration file, by the key that they explain; YAML's own readers drop them.

Read line by line, for the files of conf/ are regular: a comment stands behind its key (and may go on below, farther
right than the key), or alone on the lines above it.
"""

import re
from dataclasses import dataclass, field

_KEY = re.compile(r"^(?P<indent> *)(?:- )?(?P<key>[A-Za-z_][\w/ ]*?):(?: |$)(?P<rest>.*)$")
_BEHIND = re.compile(r"""^(?:"[^"]*"|'[^']*'|[^#"'])*?(?<!\S)#\s*(.*)$""")  # no '#' within quotes
_PACKAGE = "# @package"
_SENTENCE = re.compile(r"(.*?\.)(?=\s+[A-Z\"]|$)")


def title(text: str) -> str:
    """The comment that a file begins with, on one line."""
    lines = []
    for line in text.splitlines():
        if line.startswith(_PACKAGE):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def sentence_of(text: str) -> str:
    """The first sentence; an abbreviation such as 'et al.' ends none."""
    match = _SENTENCE.match(text)
    return match[1] if match else text


def comments(text: str) -> dict[str, str]:
    """Dotted key -> its comment on one line; keys without one are absent.

    A choice in the list of defaults is a key, too: 'defaults.data'.
    """
    reader = _Reader()
    body = text.splitlines()[_length_of_title(text) :]
    for line in body:
        reader.read(line)
    return {key: " ".join(words) for key, words in reader.found.items() if words}


def _length_of_title(text: str) -> int:
    """Lines of the comment that a file begins with."""
    lines = text.splitlines()
    return next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))


@dataclass
class _Reader:
    """Where the reader stands: the keys around the line, as (column, name), and a comment that waits for its key."""

    found: dict[str, list[str]] = field(default_factory=dict)
    around: list[tuple[int, str]] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        match = _KEY.match(line)
        if line.lstrip().startswith("#"):
            self._read_comment(line)
        elif match:
            self._read_key(match, is_item=line.lstrip().startswith("- "))

    def _read_comment(self, line: str) -> None:
        column, words = len(line) - len(line.lstrip()), line.strip().lstrip("# ")
        if self.around and column > self.around[-1][0]:
            self.found[self._path()].append(words)  # goes on below the key
        else:
            self.waiting.append(words)

    def _read_key(self, match: re.Match[str], is_item: bool) -> None:
        column = len(match["indent"]) + (1 if is_item else 0)  # an item may stand as far left as its list
        while self.around and self.around[-1][0] >= column:
            self.around.pop()
        self.around.append((column, match["key"].removeprefix("override ").strip("/ ")))
        behind = _BEHIND.match(match["rest"])
        self.found[self._path()] = [behind[1]] if behind else self.waiting
        self.waiting = []

    def _path(self) -> str:
        return ".".join(name for _, name in self.around)
