"""fold-batch-norm: a normalization by constants goes into the weights of the layer before it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import const_of, only_user
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._layers import Layer, layer_of

_EPSILON = float(np.float32(1e-5))  # where the attribute, a float32, is left out


class FoldBatchNorm(Pass):
    """BatchNormalization at inference is multiplied into the weights before it (Ioffe and Szegedy 2015).

    Before: y = BatchNormalization(Conv(x, W, b), scale, bias, mean, var); or of a ConvTranspose, grouped or
            not, a Gemm, a MatMul of matrices, or an Add of a constant behind that; arXiv 1502.03167
    After:  y = Conv(x, f W, f (b - mean) + bias), f = scale / sqrt(var + epsilon) for each channel
    Refuses: a norm that computes statistics (training); parameters that are no constants for each channel;
    weights that are no constants of float32 or float64, or that are used elsewhere, too; products of more
    than two axes, whose second one is not the channels; a layer whose result has another use.
    """

    name: ClassVar[str] = "fold-batch-norm"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(7, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "" or node.op_type != "BatchNormalization" or node.inputs[0] is None:
                continue
            layer = layer_of(node.inputs[0].producer())
            if layer is None:
                continue
            found = layer if isinstance(layer, str) else _folded(node, layer)
            yield NearMiss(node.name or node.op_type, found) if isinstance(found, str) else found


def _folded(norm: ir.Node, layer: Layer) -> Edit | str:
    if only_user(layer.output) is not norm or layer.node.graph is not norm.graph:
        return f"{layer.output.name!r} has another use"
    if layer.axis == -1 and layer.rank != 2:
        return "the channels that it normalizes are not the last axis"
    found = _factors(norm, layer.channels)
    if isinstance(found, str):
        return found
    factors, offset = found
    x, old = layer.node.inputs[0], norm.outputs[0]
    assert x is not None
    bias = offset if layer.bias is None else layer.bias * factors + offset
    make = Nodes(layer.node.name or layer.node.op_type)
    y = layer.again(make, x, layer.outputs_scaled(factors), bias, "normed", old)
    return Edit(
        f"the norm of {layer.channels} channels into {layer.node.op_type}",
        remove=[*layer.nodes, norm],
        insert=make.nodes,
        initializers=make.initializers,
        replace={old: y},
    )


def _factors(norm: ir.Node, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | str:
    """float64 [channels] each: what `norm` multiplies by, and what it adds then."""
    used = [value for value in norm.outputs[1:] if value.uses() or value.is_graph_output()]
    trains: int = norm.attributes.get_int("training_mode", 0)
    if used or trains:
        return "it computes statistics"
    given = [const_of(value) for value in norm.inputs[1:]]
    arrays = [array.astype(np.float64) for array in given if array is not None and array.dtype.kind == "f"]
    if len(arrays) != len(given) or any(array.shape != (channels,) for array in arrays):
        return "its parameters are no constants for each channel"
    scale, bias, mean, variance = arrays
    spread = variance + norm.attributes.get_float("epsilon", _EPSILON)
    if not (spread > 0).all():
        return "a variance is not positive"
    factors = scale / np.sqrt(spread)
    return factors, bias - factors * mean
