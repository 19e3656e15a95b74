"""One file a verb, thin: what was typed goes in, something is measured, written or printed."""

import argparse
from typing import Any, NoReturn

from deitlt.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """A parser of plain arguments that answers as everywhere: one sentence, in place of the usage and SystemExit.

    Args:
        advice: what to type, which ends the sentence.
        options: argparse's.
    """

    def __init__(self, advice: str, **options: Any) -> None:
        super().__init__(**options)
        self.advice = advice

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with argparse's message and the advice."""
        raise ConfigError(f"{message}; {self.advice}")
