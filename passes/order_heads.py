"""order-heads: a projection that mixes the heads of queries, keys and values gives them in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import (
    Concatenated,
    LazyTensor,
    Sliced,
    has_data,
    lazy,
    orphans,
    producer,
    run_from,
    static_dim,
)
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._heads import swaps_heads

_Columns = np.ndarray[Any, np.dtype[np.int64]]
_REARRANGING = frozenset(
    {"Expand", "Gather", "GatherND", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
_EXACT = 2**24  # so far float32 counts one by one


class OrderHeads(Pass):
    """One projection for all heads of an attention's inputs has its columns ordered, and becomes packed.

    Before: y = MatMul(x, W) + b; q, k and v [batch, heads, sequence, size] rearrange y's columns, as
            Reshape(y, [.., heads, 3, size])[.., 0, :], in any spelling
    After:  q, k, v = Split(MatMul(x, W') + b'), each with its heads split and transposed; W' and b' are
            W and b with their columns in that order (the bias is optional)
    What the nodes between y and q, k and v do is found by running them. The weight is a lazy concatenation of
    ranges of the old one: nothing is read.
    Refuses: heads that are in order already; a column used for two heads, or for none; a y that is used
    elsewhere, too; a weight that is no constant.
    """

    name: ClassVar[str] = "order-heads"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.op_type != "Attention" or node.domain != "":
                continue
            inputs = [_before_rotation(value) for value in node.inputs[:3]]
            heads = [value for value in inputs if value is not None and len(value.shape or ()) == 4]
            projection = _Projection.of(heads[0]) if len(heads) == 3 else None
            if projection is None or all(_is_in_order(value) for value in heads):
                continue
            if isinstance(projection, str):
                yield NearMiss(node.name or "Attention", projection)
                continue
            columns = _columns_of(heads, projection.result)
            if columns is None:
                continue
            found = _ordered(projection, heads, columns)
            yield NearMiss(node.name or "Attention", found) if isinstance(found, str) else found


def _before_rotation(value: ir.Value | None) -> ir.Value | None:
    rotation = producer(value, "RotaryEmbedding")
    return value if rotation is None else rotation.inputs[0]


def _is_in_order(value: ir.Value) -> bool:
    """Whether `value` is Transpose(Reshape(rows)), the rows perhaps a part of a Split."""
    turn = value.producer()
    reshape = producer(turn.inputs[0], "Reshape") if turn is not None and swaps_heads(turn) else None
    return reshape is not None and reshape.inputs[0] is not None and len(reshape.inputs[0].shape or ()) == 3


@dataclass(frozen=True)
class _Projection:
    """result [batch, sequence, width] = MatMul(x, weight) + bias"""

    x: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    result: ir.Value
    matmul: ir.Node

    @classmethod
    def of(cls, value: ir.Value) -> _Projection | str | None:
        """The one whose result `value` rearranges; why not, where that is a product of another kind."""
        node = value.producer()
        while node is not None and node.domain == "" and node.op_type in _REARRANGING:
            node = node.inputs[0].producer() if node.inputs[0] is not None else None
        if node is None or node.domain != "" or node.op_type not in ("Add", "MatMul"):
            return None
        result, bias = node.outputs[0], None
        if node.op_type == "Add":
            left, right = node.inputs
            product, bias = (left, right) if producer(left, "MatMul") is not None else (right, left)
            matmul = producer(product, "MatMul")
            if matmul is None or not _is_constant(bias, 1):
                return None
            node = matmul
        x, weight = node.inputs
        if x is None or weight is None or len(result.shape or ()) != 3:
            return None
        if not _is_constant(weight, 2):
            return "the weight of its projection is not a constant matrix"
        return cls(x, weight, bias, result, node)


def _is_constant(value: ir.Value | None, rank: int) -> bool:
    tensor = value.const_value if value is not None and not value.is_graph_input() else None
    return tensor is not None and len(tensor.shape) == rank and has_data(tensor)


def _columns_of(heads: list[ir.Value], y: ir.Value) -> list[_Columns] | None:
    """Which column of `y` each place [heads, size] of each of `heads` is; None if they are anything else."""
    if y.dtype != ir.DataType.FLOAT or y.shape is None or static_dim(y, 2) is None:
        return None
    dims = [d if isinstance(d, int) else 2 + axis for axis, d in enumerate(y.shape)]
    if prod(dims) > _EXACT:
        return None
    numbers = np.arange(prod(dims), dtype=np.float32).reshape(dims)
    found = []
    for value in heads:
        got = run_from(y, numbers, [value])
        if got is None or got[0].ndim != 4 or got[0].shape[::2] != numbers.shape[:2]:
            return None
        columns = got[0][0, :, 0].astype(np.int64)
        if not np.array_equal(got[0], numbers[:, :, columns].swapaxes(1, 2)):
            return None
        found.append(columns)
    return found


def _ordered(projection: _Projection, heads: list[ir.Value], columns: list[_Columns]) -> Edit | str:
    order = np.concatenate([c.reshape(-1) for c in columns])
    width = static_dim(projection.result, 2)
    if width is None or not np.array_equal(np.sort(order), np.arange(width)):
        return "a column of the projection serves two heads, or none"
    make = Nodes(f"{projection.matmul.name}/ordered")
    y = projection.result
    result = make.op("MatMul", [projection.x, _taken(projection.weight, 1, order, make)], "product", like=y)
    if projection.bias is not None:
        result = make.op("Add", [result, _taken(projection.bias, 0, order, make)], "biased", like=y)
    widths = make.constant([c.size for c in columns], np.int64, "widths")
    assert y.shape is not None
    like = [ir.Value(type=y.type, shape=ir.Shape([*y.shape[:2], c.size])) for c in columns]
    parts = make.many("Split", [result, widths], "split", like, axis=-1)
    made = []
    for part, old, c, label in zip(parts, heads, columns, "qkv", strict=True):
        target = make.constant([0, 0, *c.shape], np.int64, f"{label}_heads")
        apart = make.op(
            "Reshape", [part, target], f"{label}_apart", dtype=y.dtype, shape=[*y.shape[:2], *c.shape]
        )
        made.append(make.op("Transpose", [apart], label, like=old, perm=[0, 2, 1, 3]))
    makers = [node for value in heads if (node := value.producer()) is not None]
    removed = orphans(makers, {value for node in make.nodes for value in node.inputs if value is not None})
    if projection.matmul not in removed:
        return "the result of the projection has another use"
    return Edit(
        "columns in the order of heads",
        remove=removed,
        insert=make.nodes,
        initializers=make.initializers,
        replace=dict(zip(heads, made, strict=True)),
        before=makers[0],
    )


def _taken(constant: ir.Value, axis: int, order: _Columns, make: Nodes) -> ir.Value:
    """`constant` with the places along `axis` in this order."""
    assert constant.const_value is not None
    source = lazy(constant.const_value)
    parts = tuple(Sliced(source, axis, start, stop) for start, stop in _runs(order))
    if len(parts) == 1:
        return constant
    return make.weight(LazyTensor(Concatenated(parts, axis)), f"{constant.name}/ordered")


def _runs(order: _Columns) -> Iterator[tuple[int, int]]:
    """Ranges start..stop that make up `order`."""
    ends = np.flatnonzero(np.diff(order) != 1) + 1
    for run in np.split(order, ends):
        yield int(run[0]), int(run[-1]) + 1
