"""Tables from finished runs: one run in the terminal, many runs as Markdown."""

from deitlt.report.paper import PaperRow, paper_markdown, paper_rows
from deitlt.report.rows import PROTOCOLS, AccuracyRow, accuracy_rows
from deitlt.report.summary import Run, SummaryRow, read_runs, summary_markdown, summary_rows
from deitlt.report.table import group_sizes_line, results_lines, results_table

__all__ = [
    "PROTOCOLS",
    "AccuracyRow",
    "PaperRow",
    "Run",
    "SummaryRow",
    "accuracy_rows",
    "group_sizes_line",
    "paper_markdown",
    "paper_rows",
    "read_runs",
    "results_lines",
    "results_table",
    "summary_markdown",
    "summary_rows",
]
