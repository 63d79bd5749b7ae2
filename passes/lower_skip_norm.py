"""lower-skip-norm: a residual addition and the norm after it become one kernel."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import producer
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass

_KERNELS = {"RMSNormalization": "SkipSimplifiedLayerNormalization", "LayerNormalization": "SkipLayerNormalization"}
_EPSILON = 1e-5


class LowerSkipNorm(Pass):
    """Add followed by a norm over the last axis becomes Skip(Simplified)LayerNormalization.

    Before: s = Add(a, b); y = RMSNormalization(s, w)      (s may have other uses: it is the residual)
    After:  y, s = SkipSimplifiedLayerNormalization(a, b, w), epsilon set
    The same for LayerNormalization, with its bias.
    Refuses: an Add that broadcasts; a norm over another axis; inputs that are not [batch, sequence, hidden].
    """

    name: ClassVar[str] = "lower-skip-norm"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(17, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.op_type not in _KERNELS or node.domain != "":
                continue
            add = producer(node.inputs[0], "Add")
            if add is None:
                continue
            if reason := _unfit(node, add):
                yield NearMiss(node.name or node.op_type, reason)
                continue
            yield _fused(node, add)


def _unfit(node: ir.Node, add: ir.Node) -> str | None:
    a, b = add.inputs
    if a is None or b is None or a.shape is None or b.shape is None or list(a.shape) != list(b.shape):
        return "the addition may broadcast"
    if a.is_initializer() or b.is_initializer() or len(a.shape) != 3:
        return "what is added is not [batch, sequence, hidden]"
    if node.attributes.get_int("axis", -1) not in (-1, 2):
        return "the norm is not over the last axis"
    if any(output.uses() for output in node.outputs[1:]):
        return "mean or deviation is used"
    return None


def _fused(node: ir.Node, add: ir.Node) -> Edit:
    made = ir.Node(
        "com.microsoft",
        _KERNELS[node.op_type],
        [*add.inputs, *node.inputs[1:]],
        attributes=[ir.AttrFloat32("epsilon", node.attributes.get_float("epsilon", _EPSILON))],
        num_outputs=4,
        name=f"{node.name}/skip",
    )
    for unused in made.outputs[1:3]:
        unused.name = ""
    return Edit(
        made.op_type,
        remove=[add, node],
        insert=[made],
        replace={node.outputs[0]: made.outputs[0], add.outputs[0]: made.outputs[3]},
        before=add,
    )
