"""Whether rows of a model's first axis are independent of one another, read from its graph."""

from hasten.graph.rows.verdict import UNREAD, RowVerdict, row_verdict, rows_of

__all__ = ["UNREAD", "RowVerdict", "row_verdict", "rows_of"]
