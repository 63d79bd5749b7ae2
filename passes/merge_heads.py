"""merge-heads: attention without a cache takes rows, heads side by side in them."""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from graphopt.families import Assumption
from graphopt.ir import is_output, orphans, producer, static_dim
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    OpsetRange,
    Pass,
    assume_not_empty,
)

from ._heads import rows, rows_after, swaps_heads

_WITH_KERNEL = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


class MergeHeads(Pass):
    """Attention on [batch, heads, sequence, size] becomes Attention on [batch, sequence, heads * size].

    Before: y = Reshape(Transpose(Attention(q, k, v, mask))); q, k and v made by Reshape and Transpose,
            rotated perhaps
    After:  y = Attention(q, k, v, mask), q_num_heads and kv_num_heads set
    The kernel sets heads apart in less time than a Transpose does.
    Refuses: a cache; scores that are used; queries, keys or values that no Transpose made; a result whose
    heads are not put together; an unknown number or size of heads.
    """

    name: ClassVar[str] = "merge-heads"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.op_type != "Attention" or node.domain != "" or "q_num_heads" in node.attributes:
                continue
            assumed = _unfit(node) or _assumed(node, context)
            if isinstance(assumed, str):
                yield NearMiss(node.name or "Attention", assumed)
            else:
                yield _merged(node, assumed)


def _unfit(node: ir.Node) -> str | None:
    if any(value is not None for value in node.inputs[4:]):
        return "it has a cache"
    if any(value.uses() or is_output(value) for value in node.outputs[1:]):
        return "its keys, values or scores are used"
    for value in node.inputs[:3]:
        if not swaps_heads(_unrotated(value)):
            return "its queries, keys or values are not transposed from [batch, sequence, heads, size]"
        if static_dim(value, 1) is None or static_dim(value, 3) is None:
            return "the number or the size of its heads is not known"
    if rows_after(node.outputs[0]) is None:
        return "the heads of its result are not merged, or have another use before that"
    return None


def _assumed(node: ir.Node, context: Context) -> list[Assumption] | str:
    """What rows need and heads do not: with a kernel, neither takes nothing; a type without one is computed
    by the operator's definition, which takes no heads or positions where heads are split."""
    query, key = node.inputs[:2]
    assert query is not None
    assert key is not None
    if query.dtype in _WITH_KERNEL:
        return []
    return assume_not_empty([(query, 0), (query, 2), (key, 2)], "attention on rows", context)


def _unrotated(value: ir.Value | None) -> ir.Node | None:
    rotation = producer(value, "RotaryEmbedding")
    value = value if rotation is None else rotation.inputs[0]
    return value.producer() if value is not None else None


def _merged(node: ir.Node, assumed: list[Assumption]) -> Edit:
    make = Nodes(node.name or "attention")
    after = rows_after(node.outputs[0])
    assert after is not None
    heads, parts = [], []
    for value, label in zip(node.inputs[:3], "qkv", strict=True):
        count = static_dim(value, 1)
        assert value is not None
        assert count is not None
        heads.append(count)
        parts.append(rows(value, count, make, label))
    attributes: dict[str, Any] = {**node.attributes, "q_num_heads": heads[0], "kv_num_heads": heads[1]}
    y = make.op("Attention", [*parts, *node.inputs[3:4]], "rows", like=after.outputs[0], **attributes)
    turn = after.inputs[0].producer() if after.inputs[0] is not None else None
    used = {value for new in make.nodes for value in new.inputs if value is not None}
    return Edit(
        f"attention of {heads[0]} heads on rows",
        remove=orphans([n for n in (node, turn, after) if n is not None], used),
        insert=make.nodes,
        initializers=make.initializers,
        replace={after.outputs[0]: y},
        before=node,
        assumes=assumed,
    )
