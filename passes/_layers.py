"""Convolutions and products by constants as layers, whose channels can be scaled and moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import (
    Expr,
    InMemory,
    LazyTensor,
    Reshaped,
    Scaled,
    Transposed,
    blocks_of,
    const_of,
    has_data,
    lazy,
    only_user,
    simplified,
)
from graphopt.pipeline import Nodes

__all__ = ["Layer", "channel_vector", "layer_of"]

_PRODUCTS = ("Gemm", "MatMul")
_KINDS = ("Conv", "ConvTranspose", *_PRODUCTS)
_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class Layer:
    """y = x W + b by a Conv, ConvTranspose, Gemm, or MatMul and an Add behind it, W and b constants.

    `channels` of y lie along `axis` of its `rank` axes (None where that is unknown, `axis` counted from the
    end then). `bias` is float64 [channels]. `nodes` are those it is made of, the last one's output being y.
    """

    nodes: tuple[ir.Node, ...]
    weight: ir.Value
    expr: Expr
    channels: int
    axis: int
    rank: int | None
    bias: NDArray[np.float64] | None

    @property
    def node(self) -> ir.Node:
        return self.nodes[0]

    @property
    def output(self) -> ir.Value:
        return self.nodes[-1].outputs[0]

    @property
    def group(self) -> int:
        return self.node.attributes.get_int("group", 1)

    def outputs_scaled(self, factors: NDArray[np.float64]) -> Expr:
        """The weight, each channel of y [channels] times its factor."""
        if self.node.op_type == "ConvTranspose":
            return _by_group(self.expr, self.group, lambda rows: self._scaled(rows, factors, 0))
        rows_first = self.node.op_type == "Conv" or self.node.attributes.get_int("transB", 0) == 1
        return self._scaled(self.expr, factors, 0 if rows_first else 1)

    def inputs_scaled(self, factors: NDArray[np.float64]) -> Expr:
        """The weight of a Conv, each channel of x times its factor."""
        return _by_group(self.expr, self.group, lambda rows: self._scaled(rows, factors, 0))

    def _scaled(self, rows: Expr, factors: NDArray[np.float64], axis: int) -> Expr:
        return Scaled(rows, InMemory(factors.astype(self.expr.dtype.numpy())), axis)

    def again(
        self,
        make: Nodes,
        x: ir.Value,
        expr: Expr,
        bias: NDArray[np.float64] | None,
        what: str,
        like: ir.Value,
    ) -> ir.Value:
        """The layer of `x` with another weight and bias, which are named after the old ones and `what`."""
        node, kind = self.node, self.expr.dtype.numpy()
        weight = self.weight
        if expr is not self.expr:
            weight = make.weight(LazyTensor(expr), f"{weight.name}~{what}")
        added = None if bias is None else make.constant(bias, kind, f"{what}-bias")
        attributes: dict[str, Any] = dict(node.attributes)
        if node.op_type == "MatMul":
            y = make.op("MatMul", [x, weight], what, like=like)
            return y if added is None else make.op("Add", [y, added], f"{what}-sum", like=like)
        if node.op_type == "Gemm":
            attributes["beta"] = 1.0
        inputs = [x, weight] if added is None else [x, weight, added]
        return make.op(node.op_type, inputs, what, like=like, **attributes)


def layer_of(node: ir.Node | None) -> Layer | str | None:
    """The layer that ends with `node`, or why it cannot be changed; None where it is none.

    It cannot be if its weight or bias is no constant of float32 or float64, came in blocks, or if its weight
    or what is between its nodes is used elsewhere, too.
    """
    if node is None or node.domain != "":
        return None
    if node.op_type == "Add":
        return _product_and_sum(node)
    if node.op_type not in _KINDS:
        return None
    weight, bias = (*node.inputs, None)[1:3]
    expr = _constant(weight)
    if weight is None or isinstance(expr, str):
        return f"its weight {expr}"
    kind, rank = node.op_type, len(expr.shape)
    if kind in _PRODUCTS and rank != 2:
        return "its weight is not a matrix"
    if kind in _PRODUCTS and (blocks_of(expr) or blocks_of(simplified(Transposed(expr, (1, 0))))):
        return "its weight came in blocks"
    if len(weight.uses()) > 1:
        return f"weight {weight.name} is used elsewhere, too"
    group = node.attributes.get_int("group", 1)
    outer = kind == "Conv" or node.attributes.get_int("transB", 0) == 1
    channels = expr.shape[0] if outer else expr.shape[1] * (group if kind == "ConvTranspose" else 1)
    axis = -1 if kind in _PRODUCTS else 1
    y = node.outputs[0]
    known = rank if kind != "MatMul" else (None if y.shape is None else len(y.shape))
    added = None
    if bias is not None:
        added = channel_vector(bias, channels, axis, 1 if kind != "Gemm" else 2)
        if added is None:
            return "its bias is no constant for each channel"
        added = added * node.attributes.get_float("beta", 1.0)
    return Layer((node,), weight, expr, channels, axis, known, added)


def _product_and_sum(add: ir.Node) -> Layer | str | None:
    for y, bias in (add.inputs, add.inputs[::-1]):
        product = y.producer() if y is not None else None
        if y is None or product is None or product.op_type != "MatMul" or only_user(y) is not add:
            continue
        layer = layer_of(product)
        if not isinstance(layer, Layer):
            return layer
        added = channel_vector(bias, layer.channels, -1, layer.rank)
        if added is not None:
            nodes = (*layer.nodes, add)
            return Layer(nodes, layer.weight, layer.expr, layer.channels, -1, layer.rank, added)
    return None


def channel_vector(
    value: ir.Value | None, channels: int, axis: int, rank: int | None
) -> NDArray[np.float64] | None:
    """float64 [channels] where `value` is a constant that has one element for each channel, or one for all.

    The channels are along `axis` of a tensor of `rank` axes, whose shape stays as it is when the two are
    combined. Of a rank that is unknown, it is only known to have the last axis.
    """
    array = const_of(value)
    if array is None or array.dtype not in (np.float32, np.float64):
        return None
    if array.ndim > (1 if rank is None else rank):
        return None
    along = axis if axis < 0 else axis - (rank or 0)
    frame = [1] * array.ndim
    if -along <= array.ndim:
        frame[along] = channels
    if array.size != 1 and list(array.shape) != frame:
        return None
    return np.broadcast_to(array.reshape(-1).astype(np.float64), (channels,))


def _constant(value: ir.Value | None) -> Expr | str:
    if value is None or not value.is_initializer() or value.is_graph_input() or value.const_value is None:
        return "is no constant"
    if value.dtype not in _TYPES:
        return f"is of {str(value.dtype).lower()}"
    return lazy(value.const_value) if has_data(value.const_value) else "has no data"


def _by_group(expr: Expr, group: int, change: Callable[[Expr], Expr]) -> Expr:
    """`change` of a weight [group * A, B, *kernel] as [group * B, A, *kernel], turned back again."""
    outer, inner, *kernel = expr.shape
    turned = _turned(expr, group, outer // group, inner, kernel)
    return _turned(change(turned), group, inner, outer // group, kernel)


def _turned(expr: Expr, group: int, outer: int, inner: int, kernel: Sequence[int]) -> Expr:
    apart = Reshaped(expr, (group, outer, inner, *kernel))
    swapped = Transposed(apart, (0, 2, 1, *range(3, 3 + len(kernel))))
    return simplified(Reshaped(swapped, (group * inner, outer, *kernel)))
