"""The residual stream of a decoder: the values between a table and the norms behind it that are one sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt.ir import (
    InMemory,
    constant_factor,
    constant_table,
    has_data,
    is_output,
    lazy,
    only_user,
    static_dim,
)
from graphopt.pipeline import NearMiss

from ._products import Product, product_of, products_of

__all__ = ["Residual", "Summand", "is_vector", "residuals"]


_ELEMENTWISE = ("Add", "Div", "Mul", "Sub")
_NORMS = ("LayerNormalization", "RMSNormalization")


@dataclass(frozen=True)
class Summand:
    """What makes a value that is added to the stream: a tree of nodes that nothing else reads.

    `node` is a Gather from a constant table, a product by a constant, one of a summand by one number, or the
    Add of two or of a constant [K]; `of` are the summands that it is made of.
    """

    node: ir.Node
    of: tuple[Summand, ...] = ()

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        product = product_of(self.node)
        own = product.removed if isinstance(product, Product) else (self.node,)
        return (*own, *(node for part in self.of for node in part.nodes))


@dataclass
class Residual:
    """A stream of `width` channels: the Gather that it begins with, and then norms and sums in graph order.

    `summands` are for the inputs of a sum that are not values of the stream themselves.
    """

    width: int
    start: ir.Node
    steps: list[ir.Node] = field(default_factory=list)
    summands: dict[ir.Value, Summand] = field(default_factory=dict)


def residuals(graph: ir.Graph) -> Iterator[Residual | NearMiss]:
    """Those that lead to norms, or, of a stream that cannot be turned, why not."""
    known: set[ir.Node] = set()
    for node in graph:
        if node in known or constant_table(node) is None or node.outputs[0].dtype != ir.DataType.FLOAT:
            continue
        width = static_dim(node.outputs[0], -1)
        if width is None or width < 2:
            continue
        found, reason = _followed(graph, Residual(width, node))
        if not any(step.op_type in _NORMS for step in found.steps):
            continue
        known |= {n for s in found.summands.values() for n in s.nodes}
        yield NearMiss(node.name or node.op_type, reason) if reason else found


def _followed(graph: ir.Graph, found: Residual) -> tuple[Residual, str | None]:
    """`found` with all that comes of its start, and the first reason why not all of it can be turned."""
    values = {found.start.outputs[0]}
    reasons = []
    for node in graph:
        own = [value for value in node.inputs if value in values]
        if not own:
            continue
        found.steps.append(node)
        reason = _unfit_norm(node) if _is(node, "RMSNormalization") else _unfit_sum(node, values, found)
        if reason is not None:
            reasons.append(reason)
        if node.op_type in _ELEMENTWISE:  # to the norms, if only to say why they cannot be reached
            values.add(node.outputs[0])
    reasons += [f"{value.name!r} is an output of the model" for value in values if is_output(value)]
    inside = {n for held in values for n, _ in held.uses() if n.graph is not graph}
    return found, "a branch reads it" if inside else next(iter(reasons), None)


def _is(node: ir.Node, op_type: str) -> bool:
    return node.domain == "" and node.op_type == op_type


def _unfit_norm(node: ir.Node) -> str | None:
    """Why a norm of the stream does not turn with it."""
    gain = node.inputs[1].const_value if node.inputs[1] is not None else None
    if gain is None or not isinstance(lazy(gain), InMemory) or not bool((gain.numpy() == 1).all()):
        return f"norm {node.name!r} has a gain (absorb-gains takes it away, where it can)"
    if node.attributes.get_int("axis", -1) != -1:
        return f"norm {node.name!r} is over other axes than the last"
    products = products_of(node.outputs[0])
    return products if isinstance(products, str) else None


def _unfit_sum(node: ir.Node, values: set[ir.Value], found: Residual) -> str | None:
    factor = constant_factor(node.outputs[0])
    if factor is not None and factor[1] in values:
        return None
    if not _is(node, "Add"):
        return f"{node.op_type} reads it"
    for value in node.inputs:
        if value is None or value in values or is_vector(value, found.width):
            continue
        made = _summand(value, found.width)
        if isinstance(made, str):
            return made
        found.summands[value] = made
    return None


def is_vector(value: ir.Value | None, width: int) -> bool:
    """Whether it is a constant float32 [width], such as a bias."""
    tensor = None if value is None or value.is_graph_input() else value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT:
        return False
    return tuple(tensor.shape) == (width,) and has_data(tensor)


def _summand(value: ir.Value, width: int) -> Summand | str:
    node = value.producer()
    if node is None:
        return f"{value.name!r} is added to it, which no product makes"
    if only_user(value) is None:
        return f"{value.name!r} is added to it, and is for others, too"
    product = product_of(node)
    if isinstance(product, Product):
        bias = product.matrix.bias
        return Summand(node) if bias is None or is_vector(bias, width) else "a product's bias is no vector"
    if constant_table(node) is not None and value.dtype == ir.DataType.FLOAT:
        return Summand(node)
    factor = constant_factor(value)
    if factor is None and not _is(node, "Add"):
        return f"{node.op_type} makes what is added to it, and is no product by a constant"
    operands = node.inputs if factor is None else [factor[1]]
    parts = [_summand(v, width) for v in operands if v is not None and not is_vector(v, width)]
    for part in parts:
        if isinstance(part, str):
            return part
    return Summand(node, tuple(part for part in parts if isinstance(part, Summand)))
