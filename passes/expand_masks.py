"""expand-masks: a mask that is one row for all queries of attention gets a row for each."""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from graphopt.ir import static_dim
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, Nodes, OpsetRange, Pass

_MASK = 3  # Attention's input attn_mask


class ExpandMasks(Pass):
    """A mask of Attention that is one row for all queries is written out for each.

    Before: Attention(q, k, v, mask[batch,1,1,total])
    After:  Attention(q, k, v, Expand(mask, [queries, 1]))
    The operator broadcasts such a mask, and onnxruntime's kernel refuses it: the graph does not run without.
    Refuses: more rows, or an unknown number; a single query. (One column is no row of them: later opsets say
    that what a mask lacks at its end is hidden.)
    """

    name: ClassVar[str] = "expand-masks"
    level: ClassVar[Level] = Level.UPGRADE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "" or node.op_type != "Attention" or len(node.inputs) <= _MASK:
                continue
            q, mask = node.inputs[0], node.inputs[_MASK]
            if q is None or mask is None or mask.shape is None or q.shape is None:
                continue
            is_row = len(mask.shape) == 1 or (static_dim(mask, -2) == 1 and static_dim(q, -2) != 1)
            if not is_row:
                continue
            make = Nodes(f"{node.name or node.outputs[0].name}/mask")
            axis = len(q.shape) - 2
            ends: dict[str, Any] = {"start": axis, "end": axis + 1, "dtype": ir.DataType.INT64, "shape": [1]}
            target = [make.op("Shape", [q], "queries", **ends), make.constant([1], "int64", "one")]
            size = make.op("Concat", target, "size", dtype=ir.DataType.INT64, shape=[2], axis=0)
            shape = [*mask.shape[:-2], q.shape[axis], mask.shape[-1]]
            wide = make.op("Expand", [mask, size], "expanded", dtype=mask.dtype, shape=shape)
            inputs = [*node.inputs[:_MASK], wide, *node.inputs[_MASK + 1 :]]
            like = [old if old.name else None for old in node.outputs]
            attributes = dict[str, Any](node.attributes)
            made = make.many("Attention", inputs, "attention", like, **attributes)
            yield Edit(
                "one row of a mask for all queries",
                remove=[node],
                insert=make.nodes,
                initializers=make.initializers,
                replace={old: new for old, new in zip(node.outputs, made, strict=True) if old.name},
            )
