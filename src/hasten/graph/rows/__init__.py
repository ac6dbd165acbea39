"""Whether rows of a model's first axis are independent of one another, read from its graph."""

from hasten.graph.rows.verdict import RowVerdict, row_verdict

__all__ = ["RowVerdict", "row_verdict"]
