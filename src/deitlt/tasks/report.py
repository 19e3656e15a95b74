"""`deitlt report RUN...`: finished runs in one Markdown table, with mean and spread over seeds."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from deitlt.errors import ConfigError
from deitlt.report import read_runs, summary_markdown
from deitlt.tasks.run_folder import write_text


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, as everywhere, in place of the usage and SystemExit."""
        raise ConfigError(f"{message}; type deitlt report RUN... [--output FILE], with folders of finished runs.")


def main(arguments: list[str]) -> int:
    """Print the table, and write it to a file if one is named."""
    parser = _Parser(
        prog="deitlt report", description="Finished runs in one Markdown table, with mean and spread over seeds."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, or one that holds several")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table to a file, too")
    options = parser.parse_args(arguments)
    table = summary_markdown(read_runs(options.runs))
    sys.stdout.write(table)
    if options.output is not None:
        write_text(options.output, table)
    return 0
