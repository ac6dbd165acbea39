"""Reports: results as a table and as a page; this room computes nothing."""

from hasten.report.html import render_html
from hasten.report.table import candidates_table, ledger_table, print_result, summary

__all__ = ["candidates_table", "ledger_table", "print_result", "render_html", "summary"]
