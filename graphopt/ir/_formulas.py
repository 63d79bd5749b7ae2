"""Recognising spelled-out formulas: constants that should have a certain value, operands in either order."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from graphopt.ir._graph import const_of, producer

__all__ = ["constant_factor", "either_order", "scalar_operand", "wrong_constant"]

_TOLERANCE = 1e-3  # relative: exporters write sqrt(2) as 1.4140625 in half precision, 1.5e-4 off


def scalar_operand(value: ir.Value | None, like: ir.Value | None) -> float | None:
    """The constant number that `value` is, if combining it with `like` leaves the rank of `like`."""
    array = const_of(value)
    if array is None or array.size != 1 or array.dtype.kind not in "iufV":
        return None
    rank = len(like.shape) if like is not None and like.shape is not None else 0
    return float(array.reshape(-1)[0]) if array.ndim <= rank else None


def wrong_constant(what: str, value: float, wanted: float, name: str | None = None) -> str | None:
    """The reason to refuse a constant, `what`, that is not the wanted one (called `name`); None if it is.

    It may be off by a thousandth of itself: exporters round formulas to half precision.
    """
    return (
        None
        if abs(value - wanted) <= _TOLERANCE * abs(wanted)
        else f"{what} is {value:.6g}, not {name or f'{wanted:g}'}"
    )


def either_order(node: ir.Node) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Both inputs of a commutative `node`, in either order."""
    left, right = node.inputs
    if left is not None and right is not None:
        yield left, right
        yield right, left


def constant_factor(value: ir.Value | None) -> tuple[float, ir.Value, ir.Node] | None:
    """factor, x and the node where `value` is factor * x, as a Mul or a Div by a constant."""
    node = producer(value, "Mul")
    if node is not None:
        for x, constant in either_order(node):
            factor = scalar_operand(constant, x)
            if factor is not None:
                return factor, x, node
    node = producer(value, "Div")
    if node is None or node.inputs[0] is None:
        return None
    divisor = scalar_operand(node.inputs[1], node.inputs[0])
    return (1 / divisor, node.inputs[0], node) if divisor else None
