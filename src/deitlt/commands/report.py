"""`deitlt report RUN...`: finished runs as Markdown tables or as one page, with mean and spread over seeds.

Nothing heavy is imported before there is something to write, so that a wrong word and a table are answered at once.
"""

import sys
from pathlib import Path

from deitlt.commands import Parser
from deitlt.errors import ConfigError
from deitlt.reports.runs import PAGE, read_runs

PAPER_OUTPUT = Path("paper_report.md")


def main(arguments: list[str]) -> int:
    """Print the table; write it to a file if one is named, or if it is the comparison with the paper; and the page."""
    options = _parser().parse_args(arguments)
    output: Path | None = options.output or (PAPER_OUTPUT if options.paper else None)
    if output is not None and output.is_dir():
        raise ConfigError(f"--output {output} is a folder; type --output {output / PAPER_OUTPUT}.")
    if options.html is not None and options.html.is_dir():
        raise ConfigError(f"--html {options.html} is a folder; type --html {options.html / PAGE}.")
    from deitlt.reports.published import paper_markdown
    from deitlt.reports.tables import summary_markdown

    if options.pictures is not None and options.pictures.is_file():
        raise ConfigError(f"--pictures {options.pictures} is a file; type a folder, such as --pictures pictures.")
    runs = read_runs(options.runs)
    if options.html is not None:
        from deitlt.reports.page import report_html

        _write(options.html, report_html(runs))
        sys.stderr.write(f"written to {options.html}\n")
    if options.pictures is not None:
        from deitlt.reports.page import write_pictures

        written = write_pictures(runs, options.pictures)
        sys.stderr.write(f"written to {options.pictures}: {len(written)} pictures\n")
    table = paper_markdown(runs) if options.paper else summary_markdown(runs)
    sys.stdout.write(table)
    if output is not None:
        _write(output, table)
    if options.paper:
        sys.stderr.write(f"written to {output}\n")  # not among the Markdown, which may go elsewhere
    return 0


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _parser() -> Parser:
    parser = Parser(
        "type deitlt report RUN... [--html FILE] [--pictures FOLDER] [--output FILE], with folders of finished runs.",
        prog="deitlt report",
        description="Finished runs as Markdown tables, one for each data set, with mean and spread over seeds.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, or one that holds several")
    parser.add_argument(
        "--paper", action="store_true", help="put the runs, of whatever data, beside the published numbers"
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write one page with curves, pictures and the paper's claims, too"
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="write that page's figures into a folder, too, as PNG files"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"write the table to a file, too; with --paper {PAPER_OUTPUT}"
    )
    return parser
