"""raise-split: a sequence of parts of which each is taken out again becomes a Split."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, consumers, is_output, static_dim
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass


class RaiseSplit(Pass):
    """SplitToSequence whose parts are taken by constant numbers becomes Split.

    Before: s = SplitToSequence(x, sizes); a = SequenceAt(s, 0); b = SequenceAt(s, 1)
    After:  a, b = Split(x, sizes)
    Refuses: a sequence with another use; sizes, numbers or an axis of x that are not known.
    """

    name: ClassVar[str] = "raise-split"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.op_type != "SplitToSequence" or node.domain != "":
                continue
            sizes = _sizes(node)
            parts = _taken(node.outputs[0])
            if sizes is None or parts is None or not all(-len(sizes) <= i < len(sizes) for _, i in parts):
                yield NearMiss(node.name or "SplitToSequence", "its parts, or which are taken, are not known")
                continue
            yield _split(node, sizes, parts)


def _sizes(node: ir.Node) -> list[int] | None:
    """The sizes of the parts, where they keep their axis."""
    x, given = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    whole = static_dim(x, node.attributes.get_int("axis", 0))
    sizes = const_of(given)
    if whole is None or sizes is None or sizes.size == 0:
        return None
    if sizes.ndim:
        return [int(size) for size in sizes]
    step = int(sizes)
    return [min(step, whole - start) for start in range(0, whole, step)] if step > 0 else None


def _taken(sequence: ir.Value) -> list[tuple[ir.Node, int]] | None:
    """The nodes that take one part each, and its number."""
    users = consumers(sequence)
    numbers = [const_of(user.inputs[1]) if user.op_type == "SequenceAt" else None for user in users]
    if is_output(sequence) or not users or any(n is None or n.size != 1 for n in numbers):
        return None
    return [(user, int(n.reshape(-1)[0])) for user, n in zip(users, numbers, strict=True) if n is not None]


def _split(node: ir.Node, sizes: list[int], parts: list[tuple[ir.Node, int]]) -> Edit:
    x = node.inputs[0]
    assert x is not None
    make = Nodes(node.name or "split")
    like = [_part(x, node.attributes.get_int("axis", 0), size) for size in sizes]
    lengths = make.constant(sizes, np.int64, "sizes")
    made = make.many("Split", [x, lengths], "part", like, axis=node.attributes.get_int("axis", 0))
    return Edit(
        f"Split into {len(sizes)}",
        remove=[node, *(user for user, _ in parts)],
        insert=make.nodes,
        initializers=make.initializers,
        replace={user.outputs[0]: made[index] for user, index in parts},
        before=node,
    )


def _part(x: ir.Value, axis: int, size: int) -> ir.Value:
    shape = None if x.shape is None else list(x.shape)
    if shape is not None:
        shape[axis] = size
    return ir.Value(type=x.type, shape=None if shape is None else ir.Shape(shape))
