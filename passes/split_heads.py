"""split-heads: products over batch and heads as one axis are computed with an axis for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from graphopt.ir import const_of, only_user, orphans, producer, same_dim, scalar_operand
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass, Trail

_BETWEEN = ("MatMul", "Add", "Mul", "Div")


class SplitHeads(Pass):
    """What is computed with batch and heads merged is computed with both, and not merged.

    Before: Reshape(f(Reshape(a, [batch * heads, m, k]), ..), [batch, heads, m, n]), a [batch, heads, m, k];
            f: MatMul, scaling, adding, Softmax over the last axis, exchanging the last two
    After:  f(a, ..)
    Zeros that are added, as baddbmm wants something to add to, go.
    Refuses: operands that are not [batch, heads, ..] with the same sizes; a value in between used elsewhere.
    """

    name: ClassVar[str] = "split-heads"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        told: set[ir.Node] = set()
        for node in graph:
            merged = _merged(node)
            if merged is None:
                continue
            told.add(node)
            split = _Split(node.outputs[0], Nodes(f"{node.name}/heads"))
            try:
                made = split.value(merged)
            except _Stays as reason:
                yield NearMiss(node.name or "Reshape", str(reason))
                continue
            used = {v for new in split.make.nodes for v in new.inputs if v is not None}
            yield Edit(
                "batch and heads apart",
                remove=orphans([node], used),
                insert=split.make.nodes,
                initializers=split.make.initializers,
                replace={node.outputs[0]: made},
                before=node,
            )
        yield from _TRAIL.near_misses(graph, told)


def _is_anchor(node: ir.Node) -> bool:
    """A product of which a factor was [a, b, m, n] before a Reshape made three axes of it."""
    if node.op_type != "MatMul" or len(node.outputs[0].shape or ()) != 3:
        return False
    for value in node.inputs:
        turn = producer(value, "Transpose")
        reshape = producer(turn.inputs[0] if turn is not None else value, "Reshape")
        before = reshape.inputs[0] if reshape is not None else None
        if before is not None and len(before.shape or ()) == 4:
            return True
    return False


_TRAIL = Trail(
    _is_anchor,
    (("Reshape",),),
    "the Reshape does not set [batch, heads, m, n] apart, or its sizes are not known",
    over=(*_BETWEEN, "Softmax", "Transpose"),
)


class _Stays(Exception):
    """Why something is left as it is."""


def _merged(node: ir.Node) -> ir.Value | None:
    """x [batch * heads, m, n], computed by one of `_BETWEEN`, where `node` makes it [batch, heads, m, n]."""
    if node.op_type != "Reshape" or node.domain != "":
        return None
    x, y = node.inputs[0], node.outputs[0]
    maker = x.producer() if x is not None else None
    if x is None or maker is None or maker.domain != "" or maker.op_type not in _BETWEEN:
        return None
    if x.shape is None or y.shape is None or len(x.shape) != 3 or len(y.shape) != 4:
        return None
    kept = same_dim(x.shape[1], y.shape[2]) and same_dim(x.shape[2], y.shape[3])
    return x if kept and isinstance(y.shape[1], int) and not same_dim(x.shape[0], y.shape[0]) else None


@dataclass
class _Split:
    """Makes values of rank 4 from those of rank 3; `like` [batch, heads, m, n] has their sizes."""

    like: ir.Value
    make: Nodes

    def value(self, merged: ir.Value) -> ir.Value:
        """`merged` [batch * heads, m, n] as [batch, heads, m, n]. Raises `_Stays`."""
        node = merged.producer()
        if node is None or node.domain != "":
            raise _Stays(f"{merged.name} is not computed from batch and heads")
        if node.op_type == "Reshape":
            return self._before(node)
        if only_user(merged) is None:
            raise _Stays(f"an inner value has another use: {merged.name}")
        if node.op_type == "Transpose" and list(node.attributes.get_ints("perm") or ()) == [0, 2, 1]:
            return self._made(node, [self._operand(node, 0)], perm=[0, 1, 3, 2])
        if node.op_type == "Softmax" and node.attributes.get_int("axis", -1) in (-1, 2):
            return self._made(node, [self._operand(node, 0)], axis=-1)
        if node.op_type not in _BETWEEN:
            raise _Stays(f"{node.op_type} on batch and heads as one")
        if node.op_type == "Add":
            for zeros, other in ((0, 1), (1, 0)):
                if _is_zeros(node.inputs[zeros]) and _same_shape(node.inputs[other], node.outputs[0]):
                    return self._operand(node, other)
        return self._made(node, [self._operand(node, 0), self._operand(node, 1)])

    def _operand(self, node: ir.Node, index: int) -> ir.Value:
        value = node.inputs[index]
        assert value is not None
        return value if scalar_operand(value, node.outputs[0]) is not None else self.value(value)

    def _made(self, node: ir.Node, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        old = node.outputs[0]
        shape = self.like.shape
        assert shape is not None
        dims = None if old.shape is None else [shape[0], shape[1], *list(old.shape)[1:]]
        label = f"{node.op_type.lower()}{len(self.make.nodes)}"
        return self.make.op(node.op_type, inputs, label, dtype=old.dtype, shape=dims, **attributes)

    def _before(self, reshape: ir.Node) -> ir.Value:
        """What `reshape` merged: [batch, heads, m, n], or [batch, heads, n] where m is 1."""
        x, y = reshape.inputs[0], reshape.outputs[0]
        wanted = self.like.shape
        assert x is not None
        assert wanted is not None
        if x.shape is None or y.shape is None or len(x.shape) not in (3, 4):
            raise _Stays(f"{x.name} is not [batch, heads, ..]")
        if not same_dim(x.shape[0], wanted[0]) or x.shape[1] != wanted[1]:
            raise _Stays(f"{x.name} is not [batch, heads, ..]")
        rest, kept = list(x.shape)[2:], list(y.shape)[1:]
        if len(kept) == 2 and len(rest) == 1 and kept[0] == 1 and same_dim(rest[0], kept[1]):
            axis = self.make.constant([2], "int64", "axis")
            shape = [wanted[0], wanted[1], 1, rest[0]]
            return self.make.op("Unsqueeze", [x, axis], "apart", dtype=x.dtype, shape=shape)
        if len(kept) == len(rest) == 2 and all(map(same_dim, rest, kept)):
            return x
        raise _Stays(f"{x.name} is not [batch, heads, ..]")


def _is_zeros(value: ir.Value | None) -> bool:
    """Whether `value` is zeros, of a size that is known or not."""
    expand = producer(value, "Expand")
    array = const_of(expand.inputs[0] if expand is not None else value)
    return array is not None and array.size > 0 and not array.any()


def _same_shape(a: ir.Value | None, b: ir.Value) -> bool:
    if a is None or a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return False
    return all(map(same_dim, a.shape, b.shape))
