"""What the spelled-out norms have in common: means of squares over the last axis, and scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, either_order, leak, only_user, producer, scalar_operand, wrong_constant
from graphopt.pipeline import Edit, Edits, NearMiss, Trail

__all__ = [
    "TO_QUOTIENT",
    "Core",
    "following",
    "mean_of_squares",
    "not_over_last_axis",
    "ones_like",
    "raised_norms",
    "removable",
    "root",
    "squared",
]

TO_QUOTIENT = (("Add",), ("Sqrt", "Pow"), ("Div", "Mul"))
"""What follows a mean of squares, up to what is divided by its root."""


@dataclass
class Core:
    """`output` is x (or x without its mean) over the root of the mean of its squares plus `epsilon`."""

    x: ir.Value
    epsilon: float
    nodes: list[ir.Node]
    output: ir.Value


def raised_norms(
    graph: ir.Graph,
    normalized: Callable[[ir.Node], Core | str | None],
    raised: Callable[[Core], Edit | str],
    trail: Trail,
) -> Edits:
    """An edit for each node that `normalized` reads as the end of a norm; near misses for what nearly is."""
    told: set[ir.Node] = set()
    for node in graph:
        core = normalized(node)
        if core is None:
            continue
        told.add(node)
        found = core if isinstance(core, str) else raised(core)
        yield NearMiss(node.name or node.op_type, found) if isinstance(found, str) else found
    yield from trail.near_misses(graph, told)


def not_over_last_axis(mean: ir.Node, x: ir.Value) -> str | None:
    """The reason to refuse a ReduceMean that does not keep the last axis of `x`, and it alone, as 1."""
    axes = const_of(mean.inputs[1]) if len(mean.inputs) > 1 else None
    last = {-1} | ({len(x.shape) - 1} if x.shape is not None else set())
    keeps = mean.attributes.get_int("keepdims", 1) == 1
    if keeps and axes is not None and axes.size == 1 and int(axes.reshape(-1)[0]) in last:
        return None
    return "the mean is not over the last axis"


def root(value: ir.Value | None) -> tuple[ir.Value, list[ir.Node]] | None:
    """What `value` is the square root of."""
    node = producer(value, "Sqrt")
    if node is None:
        power = producer(value, "Pow")
        exponent = scalar_operand(power.inputs[1], power.inputs[0]) if power is not None else None
        node = power if exponent == 0.5 else None
    return (node.inputs[0], [node]) if node is not None and node.inputs[0] is not None else None


def mean_of_squares(value: ir.Value, x: ir.Value, named: str) -> tuple[float, list[ir.Node]] | str | None:
    """epsilon and the nodes where `value` is mean(x^2) + epsilon; why not, where it nearly is."""
    add = producer(value, "Add")
    if add is None:
        return None
    for mean_value, epsilon_value in either_order(add):
        mean = producer(mean_value, "ReduceMean")
        square = _square(mean.inputs[0]) if mean is not None else None
        if mean is None or square is None:
            continue
        inner, exponent, node = square
        epsilon = scalar_operand(epsilon_value, mean_value)
        if inner is not x:
            return f"what is squared is not {named}"
        reason = wrong_constant("the exponent", exponent, 2) or not_over_last_axis(mean, x)
        if reason is None and epsilon is None:
            reason = "epsilon is not a scalar constant"
        if reason is not None or epsilon is None:
            return reason
        return epsilon, [add, mean, node]
    return None


def squared(mean: ir.Node) -> ir.Value | None:
    """x where `mean` is a ReduceMean of x^2, or of another power of it."""
    square = _square(mean.inputs[0]) if mean.op_type == "ReduceMean" else None
    return square[0] if square is not None else None


def _square(value: ir.Value | None) -> tuple[ir.Value, float, ir.Node] | None:
    node = producer(value, "Mul")
    if node is not None and node.inputs[0] is not None and node.inputs[0] is node.inputs[1]:
        return node.inputs[0], 2.0, node
    node = producer(value, "Pow")
    if node is None or node.inputs[0] is None:
        return None
    exponent = scalar_operand(node.inputs[1], node.inputs[0])
    return (node.inputs[0], exponent, node) if exponent is not None else None


def following(value: ir.Value, op_type: str, x: ir.Value) -> tuple[ir.Node, ir.Value] | None:
    """The only user of `value`, an `op_type`, and its other operand: a constant vector for x's last axis."""
    node = only_user(value)
    if node is None or node.op_type != op_type or node.domain != "":
        return None
    other = next((v for v in node.inputs if v is not value), None)
    if other is None or not other.is_initializer() or other.dtype != value.dtype:
        return None
    if other.shape is None or x.shape is None or len(other.shape) != 1:
        return None
    width = x.shape[-1]
    return (node, other) if isinstance(width, int) and other.shape[0] == width else None


def ones_like(x: ir.Value, name: str, tape: ir.tape.Tape) -> ir.Value | None:
    """A new scale of ones for the last axis of `x`; None where its size is not known."""
    width = x.shape[-1] if x.shape is not None else None
    if not isinstance(width, int) or x.dtype is None:
        return None
    return tape.initializer(ir.tensor(np.ones(width, x.dtype.numpy())), name)


def removable(core: Core) -> str | None:
    """The reason not to replace `core`: a precision that the operator does not have, or another use."""
    if core.x.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return f"the operator computes in float, not in {core.x.dtype}"
    return leak(core.nodes)
