"""Reports: results as a table and as a page; this room computes nothing."""

from hasten.report.compression import compression_summary
from hasten.report.conversion import conversion_summary, operators_table
from hasten.report.frontier import frontier_table
from hasten.report.html import render_html
from hasten.report.load import comparison_summary, limit_summary, load_summary
from hasten.report.load_page import comparison_page, limit_page, load_page
from hasten.report.outputs import outputs_table
from hasten.report.placement import placement_table
from hasten.report.table import candidates_table, ledger_table, print_result, summary
from hasten.report.timings import Timed, timings_table

__all__ = [
    "Timed",
    "candidates_table",
    "comparison_page",
    "comparison_summary",
    "compression_summary",
    "conversion_summary",
    "frontier_table",
    "ledger_table",
    "limit_page",
    "limit_summary",
    "load_page",
    "load_summary",
    "placement_table",
    "operators_table",
    "outputs_table",
    "print_result",
    "render_html",
    "summary",
    "timings_table",
]
