"""Reports: results as a table and as a page; this room computes nothing."""

from hasten.report.conversion import conversion_summary, operators_table
from hasten.report.html import render_html
from hasten.report.placement import placement_table
from hasten.report.table import candidates_table, ledger_table, print_result, summary
from hasten.report.timings import Timed, timings_table

__all__ = [
    "Timed",
    "candidates_table",
    "conversion_summary",
    "ledger_table",
    "placement_table",
    "operators_table",
    "print_result",
    "render_html",
    "summary",
    "timings_table",
]
