"""lower-skip-norm: a residual addition and the norm after it, as they are fastest."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import MICROSOFT, is_output, producer
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass, Trail

_NORMS = ("RMSNormalization", "LayerNormalization")
_KERNEL = "SkipSimplifiedLayerNormalization"
_EPSILON = 1e-5  # the standard operators' default; that of the kernels is 1e-12


class LowerSkipNorm(Pass):
    """Add followed by a norm over the last axis: one kernel, or kept from becoming a slow one.

    Before: s = Add(a, b); y = RMSNormalization(s, w)      (s may have other uses: it is the residual)
    After:  y, _, _, s = SkipSimplifiedLayerNormalization(a, b, w), epsilon set
    Before: s = Add(a, b); y = LayerNormalization(s, w, bias)
    After:  s = Sum(a, b); y = LayerNormalization(s, w, bias)
    onnxruntime would fuse the second Add itself, into a kernel that takes two to four times as long as the
    two (docs/decisions/encoders.md); it does not know Sum. A norm without an addition stays.
    Refuses: an addition that may broadcast; values that are not [batch, sequence, hidden]; a norm over more
    axes than the last; a mean or deviation that is used.
    """

    name: ClassVar[str] = "lower-skip-norm"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(17, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        told: set[ir.Node] = set()
        for node in graph:
            if node.op_type not in _NORMS or node.domain != "":
                continue
            layer_norm = node.op_type == "LayerNormalization"
            if layer_norm and producer(node.inputs[0], "Sum") is not None:
                told.add(node)
            add = producer(node.inputs[0], "Add")
            if add is None:
                continue
            told.add(node)
            reason = _unfit(node, add)
            if reason is not None:
                yield NearMiss(node.name or node.op_type, reason)
                continue
            yield _kept_apart(add) if layer_norm else _fused(node, add)
        yield from _TRAIL.near_misses(graph, told)


_BETWEEN = ("Cast", "Dropout", "Identity", "Mul")


def _is_anchor(node: ir.Node) -> bool:
    """A norm of a sum that something was done to, or of what is nearly a sum."""
    value = node.inputs[0] if node.op_type in _NORMS else None
    for _ in range(3):
        made = value.producer() if value is not None else None
        if made is None or made.domain != "":
            return False
        if made.op_type in ("Add", "Sub", "Sum"):
            return True
        value = made.inputs[0] if made.op_type in _BETWEEN else None
    return False


_TRAIL = Trail(_is_anchor, (("Add",),), backwards=True)


def _unfit(node: ir.Node, add: ir.Node) -> str | None:
    a, b = add.inputs
    if a is None or b is None or not _same_shape(a.shape, b.shape):
        return "the addition may broadcast"
    if a.shape is None or len(a.shape) != 3:
        return "its operands are not [batch, sequence, hidden]"
    if a.dtype == ir.DataType.DOUBLE:
        return "it is computed in float64, for which there is no kernel"
    if node.attributes.get_int("axis", -1) not in (-1, 2):
        return "the norm is over more than the last axis"
    if any(output.uses() or is_output(output) for output in node.outputs[1:]):
        return "the mean or the deviation is used"
    return None


def _same_shape(a: ir.Shape | None, b: ir.Shape | None) -> bool:
    """Every dimension is the same number or the same named symbol; an unnamed one equals nothing."""
    if a is None or b is None or len(a) != len(b):
        return False
    return all(
        x == y and not (isinstance(x, ir.SymbolicDim) and x.value is None) for x, y in zip(a, b, strict=True)
    )


def _kept_apart(add: ir.Node) -> Edit:
    make, old = Nodes(add.name or "add"), add.outputs[0]
    total = make.op("Sum", add.inputs, "sum", like=old)
    return Edit(
        "Sum, so that the norm is not fused",
        remove=[add],
        insert=make.nodes,
        replace={old: total},
        before=add,
    )


def _fused(node: ir.Node, add: ir.Node) -> Edit:
    make = Nodes(node.name or "norm")
    residual = add.outputs[0]
    kept = is_output(residual) or any(user is not node for user, _ in residual.uses())
    outputs = make.many(
        _KERNEL,
        [*add.inputs, *node.inputs[1:]],
        "skip",
        [node.outputs[0], None, None, residual] if kept else [node.outputs[0]],
        domain=MICROSOFT,
        epsilon=node.attributes.get_float("epsilon", _EPSILON),
    )
    return Edit(
        f"{_KERNEL}{', with the residual' if kept else ''}",
        remove=[add, node],
        insert=make.nodes,
        replace={node.outputs[0]: outputs[0], **({residual: outputs[3]} if kept else {})},
        before=add,
    )
