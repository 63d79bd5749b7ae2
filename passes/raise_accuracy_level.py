"""raise-accuracy-level: products with weights in blocks are computed in int8."""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from graphopt.ir import MICROSOFT
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, Pass

_INT8 = 4  # the accuracy_level that rounds rows to int8
_SCALES, _G_IDX = 2, 4  # inputs of MatMulNBits


class RaiseAccuracyLevel(Pass):
    """MatMulNBits of an accuracy_level that is not 4, or has none, is computed at level 4.

    Before: MatMulNBits(x, q, s, z), accuracy_level 0 to 3: x is used as it is, in float32
    After:  the same at level 4: the kernel rounds x to int8, a block at a time
    Refuses: zero points in floats and g_idx, for which level 4 is ignored; an x of another type than float32.
    """

    name: ClassVar[str] = "raise-accuracy-level"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 30.0)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if (node.domain, node.op_type) != (MICROSOFT, "MatMulNBits"):
                continue
            before = node.attributes.get_int("accuracy_level", 0)
            if before == _INT8:
                continue
            reason = _unfit(node)
            if reason is not None:
                yield NearMiss(node.name or node.op_type, reason)
                continue
            make, old = Nodes(node.name or "MatMulNBits"), node.outputs[0]
            attributes: dict[str, Any] = {**node.attributes, "accuracy_level": _INT8}
            y = make.op("MatMulNBits", node.inputs, "in_int8", like=old, domain=MICROSOFT, **attributes)
            yield Edit(
                f"accuracy level {before} to {_INT8}", remove=[node], insert=make.nodes, replace={old: y}
            )


def _unfit(node: ir.Node) -> str | None:
    scales, zeros, order = (*node.inputs, None, None)[_SCALES : _G_IDX + 1]
    if scales is None or scales.dtype != ir.DataType.FLOAT:
        return "what it multiplies is not float32"
    if order is not None:
        return "level 4 is ignored with g_idx"
    if zeros is not None and zeros.dtype is not None and zeros.dtype.is_floating_point():
        return "level 4 is ignored with zero points in floats"
    return None
