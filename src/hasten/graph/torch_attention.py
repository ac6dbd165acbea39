"""Attention in an exported program, put so that the exporter can take it apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["lay_out_attention"]


def lay_out_attention(program: ExportedProgram) -> None:
    """Copy what each attention gives into the order of its axes, in place: it computes the same.

    torch's kernel lays out heads in another order than the products it is decomposed into, with
    some masks. The views that were traced behind the one cannot be had behind the other.
    """
    import torch

    attention = torch.ops.aten.scaled_dot_product_attention.default
    graph = program.graph_module.graph
    for node in [node for node in graph.nodes if node.target is attention]:
        with graph.inserting_after(node):
            copy = graph.call_function(
                torch.ops.aten.clone.default,
                (node,),
                {"memory_format": torch.contiguous_format},
            )
        copy.meta = dict(node.meta)
        node.replace_all_uses_with(copy, delete_user_cb=lambda user, own=copy: user is not own)
    program.graph_module.recompile()
