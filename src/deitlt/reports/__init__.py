"""What finished runs found: one run's table in the terminal, many runs as Markdown or as a page."""

from deitlt.reports.page import report_html
from deitlt.reports.paper import PaperRow, paper_markdown, paper_rows
from deitlt.reports.rows import PROTOCOLS, AccuracyRow, accuracy_rows
from deitlt.reports.runs import Run, read_runs
from deitlt.reports.summary import SummaryRow, summary_markdown, summary_rows
from deitlt.reports.table import group_sizes_line, results_lines, results_table

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
    "report_html",
    "results_lines",
    "results_table",
    "summary_markdown",
    "summary_rows",
]
