"""How large a number an expression can make, before anything computes it."""

from __future__ import annotations

import ast

__all__ = ["is_bounded"]

#: Sizes have 63 bits, and products of a few of them some hundreds.
_MAX_BITS = 4096
_SIZE_BITS = 64
_POWERS = frozenset({"Pow", "PowByNatural", "FloatPow"})
_SHIFTS = frozenset({"LShift"})


def is_bounded(node: ast.expr) -> bool:
    """Whether no part of an expression of sizes can need more than a few thousand bits.

    A name is a size, of 64 bits. An exponent or a shift has to be a number that stands there.

    >>> is_bounded(ast.parse("s0**2 * 3 + s1", mode="eval").body)
    True
    >>> is_bounded(ast.parse("9**9**9**9", mode="eval").body)
    False
    """
    return _bits(node) <= _MAX_BITS


def _bits(node: ast.AST) -> int:
    """Return the bits of the largest number within, no more than one beyond what is allowed."""
    inner = [_bits(child) for child in ast.iter_child_nodes(node)]
    most = max(inner, default=0)
    if most > _MAX_BITS:
        return most
    if isinstance(node, ast.Constant):
        return node.value.bit_length() if isinstance(node.value, int) else _SIZE_BITS
    if isinstance(node, ast.Name):
        return _SIZE_BITS
    made = most
    if isinstance(node, ast.BinOp):
        made = _of_operator(node.op, node.left, node.right)
    elif isinstance(node, ast.Call):
        made = _of_call(node, sum(inner))
    return min(max(made, most), _MAX_BITS + 1)


def _of_operator(operator: ast.operator, left: ast.expr, right: ast.expr) -> int:
    if isinstance(operator, ast.Pow):
        return _bits(left) * _literal(right)
    if isinstance(operator, ast.LShift):
        return _bits(left) + _literal(right)
    return _bits(left) + _bits(right)


def _of_call(call: ast.Call, together: int) -> int:
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name in _POWERS | _SHIFTS and len(call.args) == 2:  # noqa: PLR2004 - base and exponent
        times = _literal(call.args[1])
        return _bits(call.args[0]) * times if name in _POWERS else _bits(call.args[0]) + times
    return together


def _literal(node: ast.expr) -> int:
    """Return the number that an exponent is; too large a one where that is not known."""
    if isinstance(node, ast.UnaryOp):
        return _literal(node.operand)
    if isinstance(node, ast.Call) and len(node.args) == 1:  # Integer(2)
        return _literal(node.args[0])
    if isinstance(node, ast.Call) and len(node.args) == 2:  # noqa: PLR2004 - Rational(1, 2)
        return max(_literal(one) for one in node.args)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return min(abs(int(node.value)) + 1, _MAX_BITS + 1)
    return _MAX_BITS + 1
