"""Recognising spelled-out formulas: constants that should have a certain value, operands in either order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from graphopt.ir import const_of, producer

__all__ = ["TOLERANCE", "Scaled", "close", "leak", "misfit", "number", "only_user", "scaled", "sides"]

TOLERANCE = 1e-3
"""How far a constant may be off, as a share of it: exporters write sqrt(2) as 1.4140625 in half precision."""

Scaled = tuple[float, ir.Value, ir.Node]


def number(value: ir.Value | None, like: ir.Value | None) -> float | None:
    """The constant number that `value` is, if combining it with `like` leaves the rank of `like`."""
    array = const_of(value)
    if array is None or array.size != 1 or array.dtype.kind not in "iufV":
        return None
    rank = len(like.shape) if like is not None and like.shape is not None else 0
    return float(array.reshape(-1)[0]) if array.ndim <= rank else None


def close(value: float, wanted: float) -> bool:
    """Whether a constant is the wanted one, up to `TOLERANCE`."""
    return abs(value - wanted) <= TOLERANCE * abs(wanted)


def misfit(what: str, value: float, wanted: float, name: str | None = None) -> str | None:
    """The reason to refuse a constant that is not the wanted one (called `name`), None for one that is."""
    return None if close(value, wanted) else f"{what} is {value:.6g}, not {name or f'{wanted:g}'}"


def sides(node: ir.Node) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Both inputs of a commutative `node`, in either order."""
    left, right = node.inputs
    if left is not None and right is not None:
        yield left, right
        yield right, left


def scaled(value: ir.Value | None) -> Scaled | None:
    """factor, x and the node where `value` is factor * x, as a Mul or a Div by a constant."""
    node = producer(value, "Mul")
    if node is not None:
        for x, constant in sides(node):
            factor = number(constant, x)
            if factor is not None:
                return factor, x, node
    node = producer(value, "Div")
    if node is None or node.inputs[0] is None:
        return None
    divisor = number(node.inputs[1], node.inputs[0])
    return (1 / divisor, node.inputs[0], node) if divisor else None


def only_user(value: ir.Value) -> ir.Node | None:
    """The node that uses `value`, if it is one node alone and no graph returns the value."""
    users = {user for user, _ in value.uses()}
    return next(iter(users)) if len(users) == 1 and not value.is_graph_output() else None


def leak(nodes: Sequence[ir.Node]) -> str | None:
    """The reason not to take `nodes` away: one but the first makes a value that is used outside them."""
    inside = set(nodes)
    for node in nodes:
        if node is nodes[0]:
            continue
        for value in node.outputs:
            if value.is_graph_output() or any(user not in inside for user, _ in value.uses()):
                return f"an inner value has another use: {value.name}"
    return None
