"""pack-qkv: the projections that make queries, keys and values become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import (
    Concatenated,
    Expr,
    InMemory,
    LazyTensor,
    consumers,
    has_data,
    is_output,
    lazy,
    producer,
)
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, Pass

# What may lie between a projection and an attention, all along the first input.
_BETWEEN = frozenset({"Reshape", "Transpose", "RotaryEmbedding", "RMSNormalization", "LayerNormalization"})


class PackQkv(Pass):
    """The query, key and value projections of an attention become one MatMul and a Split.

    Before: q = MatMul(x, Wq) + bq; k = MatMul(x, Wk) + bk; v = MatMul(x, Wv) + bv      (biases optional)
    After:  q, k, v = Split(MatMul(x, [Wq Wk Wv]) + [bq bk bv])
    The packed weight is a lazy concatenation: nothing is read. A projection without a bias gets zeros where
    another has one.
    Refuses: models without a cache on a target that multiplies many rows faster by each of them
    (`Capabilities.packed_projections`); projections of different values; weights that are not constant
    matrices of one dtype; a projection whose result without its bias is used too.
    """

    name: ClassVar[str] = "pack-qkv"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.reassociates()
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        target = context.target
        apart = target is not None and not context.states and not target.capabilities().packed_projections()
        for node in graph:
            if node.op_type != "Attention" or node.domain != "":
                continue
            if apart:
                yield NearMiss(node.name or "Attention", "the target is faster with three products")
                continue
            found = [_projection(value) for value in node.inputs[:3]]
            projections = [p for p in found if p is not None]
            if 0 < len(projections) < len(found):
                which = ("queries", "keys", "values")[found.index(None)]
                yield NearMiss(
                    node.name or "Attention",
                    f"{which} are not made by a product, a constant added perhaps",
                )
                continue
            if len({p.matmul for p in projections}) < 3:
                continue  # packed already, or not made by three projections at all
            reason = _unfit(projections)
            if reason is not None:
                yield NearMiss(node.name or "Attention", reason)
                continue
            yield _packed(projections)


@dataclass(frozen=True)
class _Projection:
    matmul: ir.Node
    add: ir.Node | None
    bias: ir.Value | None

    @property
    def result(self) -> ir.Value:
        return (self.add or self.matmul).outputs[0]

    @property
    def weight(self) -> ir.Value | None:
        return self.matmul.inputs[1]


def _projection(value: ir.Value | None) -> _Projection | None:
    """The MatMul, and the Add of its bias, that make one of an attention's inputs."""
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in _BETWEEN and node.domain == "":
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    if node is None or node.domain != "":
        return None
    if node.op_type == "MatMul":
        return _Projection(node, None, None)
    if node.op_type != "Add":
        return None
    for result, bias in (tuple(node.inputs), tuple(reversed(node.inputs))):
        matmul = producer(result, "MatMul")
        if matmul is not None and _is_constant(bias, 1):
            return _Projection(matmul, node, bias)
    return None


def _is_constant(value: ir.Value | None, rank: int) -> bool:
    tensor = value.const_value if value is not None and not value.is_graph_input() else None
    return tensor is not None and len(tensor.shape) == rank and has_data(tensor)


def _unfit(projections: list[_Projection]) -> str | None:
    if len({p.matmul.inputs[0] for p in projections}) != 1:
        return "queries, keys and values are projections of different values"
    if not all(_is_constant(p.weight, 2) for p in projections):
        return "a projection's weight is not a constant matrix"
    if len({p.weight.dtype for p in projections if p.weight is not None}) != 1:
        return "the projections' weights differ in dtype"
    if any(p.add is not None and _used_elsewhere(p.matmul.outputs[0]) for p in projections):
        return "a projection's result is also used without its bias"
    return None


def _used_elsewhere(value: ir.Value) -> bool:
    return len(consumers(value)) > 1 or is_output(value)


def _packed(projections: list[_Projection]) -> Edit:
    first = projections[0].matmul
    make = Nodes(first.name or "qkv")
    weights = [p.weight for p in projections if p.weight is not None]
    exprs = [_expr(w) for w in weights]
    widths = [e.shape[1] for e in exprs]
    like = projections[0].result
    shape = None if like.shape is None else [*like.shape[:-1], sum(widths)]
    names = [w.name or "weight" for w in weights]
    weight = make.weight(LazyTensor(Concatenated(tuple(exprs), 1)), _joined(names))
    packed = make.op("MatMul", [first.inputs[0], weight], "packed", dtype=like.dtype, shape=shape)
    if any(p.bias is not None for p in projections):
        names = [p.bias.name or "bias" for p in projections if p.bias is not None]
        bias = make.weight(LazyTensor(_biases(projections, exprs)), _joined(names))
        packed = make.op("Add", [packed, bias], "packed_bias", dtype=like.dtype, shape=shape)
    sizes = make.constant(widths, np.int64, "widths")
    parts = make.many("Split", [packed, sizes], "split", [p.result for p in projections], axis=-1)
    removed = [node for p in projections for node in (p.matmul, p.add) if node is not None]
    return Edit(
        "one projection for queries, keys and values",
        remove=removed,
        insert=make.nodes,
        initializers=make.initializers,
        replace={p.result: part for p, part in zip(projections, parts, strict=True)},
        before=first,
    )


def _expr(value: ir.Value) -> Expr:
    assert value.const_value is not None
    return lazy(value.const_value)


def _biases(projections: list[_Projection], weights: list[Expr]) -> Expr:
    dtype = weights[0].dtype
    parts = [
        InMemory(np.zeros(w.shape[1], dtype.numpy()), dtype) if p.bias is None else _expr(p.bias)
        for p, w in zip(projections, weights, strict=True)
    ]
    return Concatenated(tuple(parts), 0)


def _joined(names: list[str]) -> str:
    """One name for several: `attn.q_proj.weight`, `attn.k_proj.weight~cast` are `attn.qk_proj.weight`."""
    names = [name.partition("~")[0] for name in names]
    start = _beginning(names)
    end = _beginning([name[len(start) :][::-1] for name in names])[::-1]
    middle = "".join(name[len(start) : len(name) - len(end)] for name in names)
    return f"{start}{middle}{end}"


def _beginning(names: list[str]) -> str:
    """What all names begin with."""
    same = [len(set(letters)) == 1 for letters in zip(*names, strict=False)]
    return names[0][: [*same, False].index(False)]
