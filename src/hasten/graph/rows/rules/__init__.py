"""By operator, where rows lie in its outputs: one file a family."""

from hasten.graph.rows.rules import (
    axes,
    elementwise,
    indexing,
    layout,
    products,
    recurrent,
    spatial,
)
from hasten.graph.rows.rules.rule import Rule, Shapes

__all__ = ["RULES", "Rule", "Shapes"]

#: By domain, empty for ONNX's own, and operator.
RULES: dict[tuple[str, str], Rule] = {
    **elementwise.RULES,
    **layout.RULES,
    **axes.RULES,
    **products.RULES,
    **spatial.RULES,
    **indexing.RULES,
    **recurrent.RULES,
}
