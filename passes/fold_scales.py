"""fold-scales: what channels are multiplied by or moved by goes into the weights of the layer beside it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import const_of, only_user, static_dim
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._layers import Layer, channel_vector, layer_of

_ARITHMETIC = ("Mul", "Div", "Add", "Sub")
_Map = tuple[NDArray[np.float64], NDArray[np.float64]]  # what channels are multiplied by, and what is added


class FoldScales(Pass):
    """A constant for each channel, behind a layer or before a convolution, becomes part of its weights.

    Before: y = Mul(Conv(x, W, b), c), or Div, Add or Sub; or of a ConvTranspose, a Gemm, a MatMul, or an Add
            of a constant behind that (Add and Sub not behind a MatMul alone: so its bias is written)
    After:  y = Conv(x, c W, c b)
    Before: y = Conv(Mul(x, c), W, b), or Div; Add or Sub where nothing is padded
    After:  y = Conv(x, W c, b)
    Layer scale (Touvron et al. 2021, arXiv 2103.17239) and the mean and spread of pictures are such.
    Refuses: constants that are not one for each channel or for all; weights that are no constants of float32
    or float64, or that are used elsewhere, too; a result between the two that has another use.
    """

    name: ClassVar[str] = "fold-scales"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(7, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for fold, nodes in ((_behind, graph), (_before, reversed(list(graph)))):
            for node in nodes:
                if node.graph is not graph or node.domain != "" or node.op_type not in _ARITHMETIC:
                    continue
                found = fold(node)
                if found is not None:
                    yield NearMiss(node.name or node.op_type, found) if isinstance(found, str) else found


def _behind(node: ir.Node) -> Edit | str | None:
    for x, constant in _operands(node):
        layer = layer_of(x.producer())
        if layer is None or (isinstance(layer, Layer) and _writes_bias(node, layer)):
            continue
        if isinstance(layer, str):
            return layer
        if only_user(layer.output) is not node or layer.node.graph is not node.graph:
            return f"{layer.output.name!r} has another use"
        found = _map(node, channel_vector(constant, layer.channels, layer.axis, layer.rank))
        if isinstance(found, str):
            return found
        factors, offset = found
        source, old, make = layer.node.inputs[0], node.outputs[0], Nodes(layer.node.name or "layer")
        assert source is not None
        bias = offset if layer.bias is None else layer.bias * factors + offset
        plain = layer.bias is None and not offset.any()
        expr = layer.expr if (factors == 1).all() else layer.outputs_scaled(factors)
        y = layer.again(make, source, expr, None if plain else bias, node.op_type.lower(), old)
        return _edit(node, layer, make, y, old)
    return None


def _before(node: ir.Node) -> Edit | str | None:
    conv = only_user(node.outputs[0])
    if conv is None or conv.op_type != "Conv" or conv.domain != "" or conv.inputs[0] is not node.outputs[0]:
        return None
    for x, constant in _operands(node):
        layer = layer_of(conv)
        if not isinstance(layer, Layer) or conv.graph is not node.graph:
            return layer if isinstance(layer, str) else None
        channels = layer.expr.shape[1] * layer.group
        if x.shape is None or len(x.shape) != layer.rank or static_dim(x, 1) != channels:
            return "the channels of what it changes are not known"
        found = _map(node, channel_vector(constant, channels, 1, layer.rank))
        if isinstance(found, str):
            return found
        factors, offset = found
        moved = _through(layer, offset) if offset.any() else 0.0
        if isinstance(moved, str):
            return moved
        bias = moved if layer.bias is None else layer.bias + moved
        expr = layer.expr if (factors == 1).all() else layer.inputs_scaled(factors)
        old, make = conv.outputs[0], Nodes(conv.name or "conv")
        kept = None if isinstance(bias, float) else bias
        return _edit(node, layer, make, layer.again(make, x, expr, kept, node.op_type.lower(), old), old)
    return None


def _edit(node: ir.Node, layer: Layer, make: Nodes, y: ir.Value, old: ir.Value) -> Edit:
    return Edit(
        f"{node.op_type} of {layer.channels} channels into {layer.node.op_type}",
        remove=[*layer.nodes, node],
        insert=make.nodes,
        initializers=make.initializers,
        replace={old: y},
    )


def _operands(node: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
    """What `node` changes and the constant that it does it by, which Div and Sub have second."""
    left, right = node.inputs
    if left is None or right is None:
        return []
    pairs = [(left, right)] if node.op_type in ("Div", "Sub") else [(left, right), (right, left)]
    return [(x, constant) for x, constant in pairs if const_of(constant) is not None and const_of(x) is None]


def _writes_bias(node: ir.Node, layer: Layer) -> bool:
    """Whether `node` is an Add or Sub behind a product that has none yet: that is its bias."""
    return node.op_type in ("Add", "Sub") and layer.node.op_type == "MatMul" and layer.bias is None


def _map(node: ir.Node, constant: NDArray[np.float64] | None) -> _Map | str:
    if constant is None:
        return "its constant is not one for each channel"
    one, none = np.ones_like(constant), np.zeros_like(constant)
    match node.op_type:
        case "Mul":
            return constant, none
        case "Div":
            return (1 / constant, none) if constant.all() else "it divides by zero"
        case "Add":
            return one, constant
    return one, -constant


def _through(layer: Layer, offset: NDArray[np.float64]) -> NDArray[np.float64] | str:
    """What a convolution of [channels of x], the same everywhere, is: float64 [channels of y]."""
    attributes = layer.node.attributes
    if any(attributes.get_ints("pads", ())) or attributes.get_string("auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    ):
        return "what it adds is not added to the padding"
    weight = const_of(layer.weight)
    if weight is None:
        return "its weight is too large to be read"
    summed = weight.astype(np.float64).reshape(layer.group, -1, *weight.shape[1:2], weight[0, 0].size).sum(-1)
    moved = np.einsum("goc,gc->go", summed, offset.reshape(layer.group, -1))
    return np.asarray(moved.reshape(-1))
