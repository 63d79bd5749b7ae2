"""unfold-conv-transpose: a transposed convolution whose parts do not overlap becomes a convolution."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import LazyTensor, Reshaped, Transposed, has_data, lazy, node_name, simplified, static_dim
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

_TO_LAST, _TO_SECOND = [0, 2, 3, 1], [0, 3, 1, 2]
"""Orders of the axes of images, channels last and channels second."""


class UnfoldConvTranspose(Pass):
    """Each place of the input makes a block of the output by itself: a product, and a move.

    Before: y = ConvTranspose(x[N,C,H,W], W[C,D,a,b], c[D]), strides (a, b)
    After:  z = Conv(x, W'[a*b*D,C,1,1], c'[a*b*D]), channels last, as [N,H,W,a,b*D]; rows and then blocks
            exchanged, as [N,H*a,W*b,D], channels second
    Runtimes compute convolutions in integers, and transposed ones in floats. The move is of b*D numbers at a
    time where channels come last, as integer kernels have them. So it is for graphs that quantize-static
    makes integer.
    Refuses: what overlaps or leaves gaps, pads, groups; weights that are computed; images of unknown size; a
    model with nothing to calibrate on, whose convolutions stay in floats.
    """

    name: ClassVar[str] = "unfold-conv-transpose"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if (node.domain, node.op_type) != ("", "ConvTranspose"):
                continue
            reason = _unfit(node)
            if reason is None and context.calibration is None:
                reason = "there is nothing to calibrate on, and in floats it is no faster"
            if reason is None:
                yield _unfolded(node)
            else:
                yield NearMiss(node_name(node), reason)


def _unfit(node: ir.Node) -> str | None:
    x, weight = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    for value in (weight, *([bias] if bias is not None else [])):
        if value is None or not value.is_initializer() or value.is_graph_input():
            return "its weight or its bias is not a constant"
        if value.const_value is None or not has_data(value.const_value):
            return "its weight has no data"
    assert weight is not None
    assert weight.const_value is not None
    shape = weight.const_value.shape.numpy()
    if len(shape) != 4:
        return "it is not of images"
    kernel = list(shape[2:])
    attributes = node.attributes
    if list(attributes.get_ints("strides") or (1, 1)) != kernel:
        return "its parts overlap, or leave gaps"
    if attributes.get_int("group", 1) != 1 or set(attributes.get_ints("dilations") or (1,)) != {1}:
        return "it has groups or dilations"
    padded = [*(attributes.get_ints("pads") or ()), *(attributes.get_ints("output_padding") or ())]
    if any(padded) or "output_shape" in attributes or attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return "it is padded"
    if static_dim(x, 2) is None or static_dim(x, 3) is None:
        return "the size of its images is unknown"
    return None


def _unfolded(node: ir.Node) -> Edit:
    new, old, x = Nodes(node_name(node)), node.outputs[0], node.inputs[0]
    weight = node.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    count, width, rows, columns = weight.const_value.shape.numpy()
    height, length = static_dim(x, 2), static_dim(x, 3)
    assert height is not None
    assert length is not None
    blocks = rows * columns * width
    turned = Reshaped(Transposed(lazy(weight.const_value), (2, 3, 1, 0)), (blocks, count, 1, 1))
    inputs = [x, new.weight(LazyTensor(simplified(turned)), f"{weight.name}~unfolded")]
    if len(node.inputs) > 2 and (bias := node.inputs[2]) is not None:
        assert bias.const_value is not None
        inputs.append(
            new.weight(ir.tensor(np.tile(bias.const_value.numpy(), rows * columns)), f"{bias.name}~unfolded")
        )
    made = new.op("Conv", inputs, "product", dtype=old.dtype)
    made = new.op("Transpose", [made], "last", dtype=old.dtype, perm=_TO_LAST)
    shapes = ([0, 0, 0, rows, columns * width], [0, height * rows, length * columns, width])
    made = new.op(
        "Reshape", [made, new.constant(shapes[0], np.int64, "blocks/shape")], "blocks", dtype=old.dtype
    )
    made = new.op("Transpose", [made], "rows", dtype=old.dtype, perm=[0, 1, 3, 2, 4])
    made = new.op(
        "Reshape", [made, new.constant(shapes[1], np.int64, "image/shape")], "image", dtype=old.dtype
    )
    made = new.op("Transpose", [made], "second", like=old, perm=_TO_SECOND)
    return Edit(
        "transposed convolution as a product",
        remove=[node],
        insert=new.nodes,
        initializers=new.initializers,
        replace={old: made},
    )
