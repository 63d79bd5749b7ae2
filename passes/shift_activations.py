"""shift-activations: values between quantized nodes are unsigned where integer kernels want them so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import const_of, consumers, is_output
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass


class ShiftActivations(Pass):
    """Activations that are rounded to int8 are rounded to uint8, or to int8 where the target wants that.

    Before: QuantizeLinear(x, s, z), z int8, read by DequantizeLinear(q, s, z') alone
    After:  the same with z + 128 and z' + 128, uint8: every integer is moved by 128, and what it stands for
            stays. Or the other way: see `Capabilities.signed_activations`
    onnxruntime's kernels for the CPU multiply unsigned activations by signed weights.
    Refuses: integers that something else reads, or that are an output; zero points that are no constants.
    """

    name: ClassVar[str] = "shift-activations"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(10, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        signed = context.target is not None and context.target.capabilities().signed_activations()
        unwanted = ir.DataType.UINT8 if signed else ir.DataType.INT8
        for node in graph:
            if node.domain or node.op_type != "QuantizeLinear" or node.outputs[0].dtype != unwanted:
                continue
            found = _shifted(node, -128 if signed else 128)
            yield found if isinstance(found, Edit) else NearMiss(node.name or node.op_type, found)


def _shifted(node: ir.Node, by: int) -> Edit | str:
    q = node.outputs[0]
    readers = sorted(consumers(q), key=lambda reader: reader.name or "")
    others = [reader for reader in readers if reader.domain or reader.op_type != "DequantizeLinear"]
    if is_output(q) or not readers:
        return "the integers are an output"
    if others or any(reader.inputs[0] is not q for reader in readers):
        return f"the integers are read by {(others or readers)[0].op_type}, too"
    if any(reader.graph is not node.graph for reader in readers):
        return "the integers are read in a subgraph"
    make = Nodes(node.name or "QuantizeLinear")
    zeros = [_moved(each.inputs, node.outputs[0].dtype, by) for each in (node, *readers)]
    known = [zero for zero in zeros if zero is not None]
    if len(known) < len(zeros):
        return "a zero point is no constant"
    values = [make.constant(zero, zero.dtype, f"zero{index or ''}") for index, zero in enumerate(known)]
    dtype = ir.DataType.from_numpy(known[0].dtype)
    attributes: dict[str, Any] = {k: v for k, v in node.attributes.items() if k != "output_dtype"}
    inputs = [*node.inputs[:2], values[0]]
    moved = make.op(node.op_type, inputs, "shifted", like=q, dtype=dtype, **attributes)
    replace: dict[ir.Value, ir.Value] = {}
    for reader, zero in zip(readers, values[1:], strict=True):
        old = reader.outputs[0]
        label = f"back_{len(replace)}"
        same: dict[str, Any] = dict(reader.attributes)
        replace[old] = make.op(reader.op_type, [moved, reader.inputs[1], zero], label, like=old, **same)
    return Edit(
        f"activations of {'uint8' if by > 0 else 'int8'}",
        remove=[node, *readers],
        insert=make.nodes,
        initializers=make.initializers,
        replace=replace,
        before=node,
    )


def _moved(inputs: Sequence[ir.Value | None], dtype: ir.DataType | None, by: int) -> NDArray[Any] | None:
    """The zero point among the `inputs` of a node, moved `by` so much; None where it is no constant."""
    zero, scale = inputs[2] if len(inputs) > 2 else None, inputs[1]
    if zero is not None:
        array = const_of(zero)
    elif scale is not None and scale.shape is not None and not len(scale.shape):
        array = np.zeros((), np.int8 if dtype == ir.DataType.INT8 else np.uint8)
    else:
        array = None
    if array is None:
        return None
    return (array.astype(np.int16) + by).astype(np.uint8 if by > 0 else np.int8)
