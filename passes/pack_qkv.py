"""pack-qkv: three projections of one value become one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import Concatenated, LazyTensor, consumers, lazy, producer
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass

_LAYOUT = {
    "Reshape", "Transpose", "RotaryEmbedding", "RMSNormalization", "LayerNormalization", "Unsqueeze", "Expand",
}  # fmt: skip


class PackQkv(Pass):
    """The query, key and value projections of an attention become one MatMul and a Split.

    Before: q = MatMul(x, Wq); k = MatMul(x, Wk); v = MatMul(x, Wv), each perhaps with a bias added
    After:  q, k, v = Split(MatMul(x, [Wq Wk Wv]) + [bq bk bv])
    The packed weight is a lazy concatenation: nothing is read. The arithmetic of each column stays, but the
    kernel may order its sums by the matrix's width.
    Refuses: weights that are not constant; biases on some of the three only; inputs that are not the same.
    """

    name: ClassVar[str] = "pack-qkv"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.reassociates()
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.op_type != "Attention" or node.domain != "":
                continue
            projections = [_projection(value) for value in node.inputs[:3]]
            matmuls = [p[0] for p in projections if p is not None]
            if len(matmuls) < 3 or len(set(matmuls)) < 3:
                continue
            reason = _unfit([p for p in projections if p is not None])
            if reason is not None:
                yield NearMiss(node.name or "Attention", reason)
                continue
            yield _packed(graph, [p for p in projections if p is not None])


_Projection = tuple[ir.Node, ir.Node | None]


def _projection(value: ir.Value | None) -> _Projection | None:
    """The MatMul behind one of an attention's inputs, and the Add of its bias if there is one."""
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in _LAYOUT:
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    if node is None:
        return None
    if node.op_type == "Add":
        for x in node.inputs:
            matmul = producer(x, "MatMul")
            if matmul is not None and len(consumers(matmul.outputs[0])) == 1 and _bias(node) is not None:
                return matmul, node
        return None
    return (node, None) if node.op_type == "MatMul" and node.domain == "" else None


def _bias(add: ir.Node) -> ir.Value | None:
    return next((v for v in add.inputs if v is not None and v.is_initializer() and len(v.shape or ()) == 1), None)


def _unfit(projections: list[_Projection]) -> str | None:
    if len({matmul.inputs[0] for matmul, _ in projections}) != 1:
        return "q, k and v are projections of different values"
    weights = [matmul.inputs[1] for matmul, _ in projections]
    if any(w is None or not w.is_initializer() or w.is_graph_input() or len(w.shape or ()) != 2 for w in weights):
        return "a projection's weight is not a constant matrix"
    if len({add is None for _, add in projections}) != 1:
        return "only some of the three have a bias"
    return None


def _concatenated(values: list[ir.Value], axis: int, tape: ir.tape.Tape, name: str) -> ir.Value:
    tensors = [v.const_value for v in values]
    return tape.initializer(LazyTensor(Concatenated(tuple(lazy(t) for t in tensors if t is not None), axis)), name)


def _packed(graph: ir.Graph, projections: list[_Projection]) -> Edit:
    matmuls = [matmul for matmul, _ in projections]
    adds = [add for _, add in projections if add is not None]
    weights = [m.inputs[1] for m in matmuls if m.inputs[1] is not None]
    widths = [int(w.shape[1]) for w in weights if w.shape is not None]  # type: ignore[arg-type]
    first = matmuls[0]
    tape = ir.tape.Tape()
    weight = _concatenated(weights, 1, tape, f"{weights[0].name}/packed")
    y = tape.op("MatMul", [first.inputs[0], weight], name=f"{first.name}/packed")
    _describe(y, first.outputs[0], sum(widths))
    if adds:
        biases = [b for add in adds if (b := _bias(add)) is not None]
        bias = _concatenated(biases, 0, tape, f"{biases[0].name}/packed")
        y = tape.op("Add", [y, bias], name=f"{adds[0].name}/packed")
        _describe(y, first.outputs[0], sum(widths))
    sizes = tape.initializer(ir.tensor(np.asarray(widths, np.int64)), f"{first.name}/widths")
    parts = tape.op_multi_out("Split", [y, sizes], {"axis": -1}, num_outputs=3, name=f"{first.name}/split")
    ends = [add or matmul for matmul, add in projections]
    removed = set(matmuls) | set(adds)
    order = [node for node in graph if node in removed]
    return Edit(
        "packed projections",
        remove=order,
        insert=tape.nodes,
        initializers=tape.initializers,
        replace={end.outputs[0]: part for end, part in zip(ends, parts, strict=True)},
        before=order[0],
    )


def _describe(value: ir.Value, like: ir.Value, width: int) -> None:
    value.dtype = like.dtype
    if like.shape is not None:
        value.shape = ir.Shape([*like.shape[:-1], width])
