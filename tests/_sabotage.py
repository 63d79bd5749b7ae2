"""Passes that break a model in ways that still run: what every recipe's closing check must catch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from graphopt.pipeline import Context, Contract, Edit, Edits, Level, Pass


def _weight(value: ir.Value, array: np.ndarray) -> ir.Value:
    return ir.Value(
        name=f"{value.name}/sabotaged",
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.tensor(np.ascontiguousarray(array)),
    )


def _replaced(value: ir.Value, array: np.ndarray) -> Edit:
    new = _weight(value, array)
    return Edit("sabotage", initializers=[new], replace={value: new}, drop_initializers=[value])


def _projections(graph: ir.Graph) -> Iterator[ir.Value]:
    """Weights [in, out] of the products, in graph order."""
    for node in graph:
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        if weight is not None and weight.is_initializer():
            yield weight


class _Sabotage(Pass):
    level = Level.IMPROVE
    contract = Contract.exact()
    main_graph_only = True


class ZeroProjection(_Sabotage):
    """The output projection of the last attention becomes zero."""

    name = "zero-projection"

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        attention = [n for n in graph if n.op_type == "Attention"][-1]
        node = attention
        while node.op_type != "MatMul":
            node = _user(node)
        weight = node.inputs[1]
        assert weight is not None
        yield _replaced(weight, np.zeros_like(weight.const_value.numpy()))


class DropMask(_Sabotage):
    """Attention sees every key there is."""

    name = "drop-mask"

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in list(graph):
            mask = node.inputs[3] if node.op_type == "Attention" else None
            if mask is None:
                continue
            tape = ir.tape.Tape()
            if mask.dtype == ir.DataType.BOOL:
                open_mask = tape.op("Or", [mask, tape.op("Not", [mask])], name=f"{node.name}/open")
            else:
                zero = tape.initializer(ir.tensor(np.asarray(0, np.float32)), f"{node.name}/zero")
                open_mask = tape.op("Mul", [tape.op("Cast", [tape.op("IsNaN", [mask])], {"to": 1}), zero])
            open_mask.type, open_mask.shape = mask.type, mask.shape
            inputs = [open_mask if v is mask else v for v in node.inputs]
            outputs = tape.op_multi_out(
                "Attention",
                inputs,
                dict(node.attributes),
                num_outputs=len(node.outputs),
                name=f"{node.name}/open",
            )
            yield Edit(
                "no mask",
                remove=[node],
                insert=tape.nodes,
                initializers=tape.initializers,
                replace=dict(zip(node.outputs, outputs, strict=True)),
            )


class SwapHeads(_Sabotage):
    """The first two query heads of the first layer change places, and nothing after them does."""

    name = "swap-heads"

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        size = context.config["head_dim"]
        weight = next(_projections(graph))
        array = weight.const_value.numpy().copy()
        array[:, : 2 * size] = np.concatenate([array[:, size : 2 * size], array[:, :size]], axis=1)
        yield _replaced(weight, array)


def _user(node: ir.Node) -> ir.Node:
    return next(iter(node.outputs[0].uses())).node


SABOTAGE = (ZeroProjection, DropMask, SwapHeads)
