"""One side of a window as a model of its own, its larger weights beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from graphopt.ir import Expr, Transposed, holds_map, lazy, simplified, to_proto
from graphopt.ir.operators import TRANSPOSING_PRODUCT
from graphopt.verify._cone import Cone
from graphopt.verify._window import Piece, Weight

__all__ = ["piece_of"]

_IR_VERSION = 10
"""The first that has every type a weight may be of: integers of 4 bits."""
_INLINE = 256
"""Bytes up to which a weight stays in its piece, and tells windows apart: axes, epsilons, small shapes."""
_AS_INPUT = 256 << 10
"""Bytes from which a weight is fed. A judgement: below, a copy takes less time than an input."""


def piece_of(
    model: ir.Model,
    cone: Cone,
    outputs: Sequence[ir.Value],
    names: Mapping[ir.Value, str],
    opsets: dict[str, int],
) -> Piece:
    leaves = [value for value in names if value in cone.leaves]
    held = list(cone.weights)
    _told_apart(held)
    inner = {value for node in cone.nodes for value in node.outputs}
    shown = [value for value in dict.fromkeys(outputs) if value in inner]
    view = ir.GraphView(
        leaves, shown, nodes=cone.nodes, initializers=held, opset_imports=opsets, name="piece"
    )
    graph = view.clone()
    _anonymous(graph)
    place = dict(zip((*leaves, *held), (*graph.inputs, *graph.initializers.values()), strict=True))
    place |= dict(zip(shown, graph.outputs, strict=True))
    for value in leaves:
        clone = place[value]
        if clone.is_initializer():  # an input with a default: it is fed
            graph.initializers.pop(clone.name or "")
            clone.const_value = None
        clone.name = names[value]
    weights = _weights(graph, [place[value] for value in held])
    graph.outputs.clear()
    for index, value in enumerate(outputs):
        if holds_map(value.type):  # which Identity does not take
            place[value].name, place[value].type = f"y{index}", value.type
            graph.outputs.append(place[value])
            continue
        node = ir.Node("", "Identity", [place[value]])
        node.outputs[0].name, node.outputs[0].type = f"y{index}", value.type
        graph.append(node)
        graph.outputs.append(node.outputs[0])
    functions = list(model.functions.values())
    graph.opset_imports.update({node.domain: 1 for node in graph if node.domain not in graph.opset_imports})
    proto = to_proto(ir.Model(graph, ir_version=_IR_VERSION, functions=functions))
    return Piece(proto.SerializeToString(deterministic=True), weights)


def _told_apart(weights: Sequence[ir.Value]) -> None:
    """New weights get other names than those they meet, as they will when the edit is applied."""
    names = {value.name for value in weights if value.graph is not None}
    for value in weights:
        if value.graph is None:
            base, number = value.name or "weight", 0
            while value.name in names:
                number += 1
                value.name = f"{base}_{number}"
            names.add(value.name)


def _anonymous(graph: ir.Graph) -> None:
    """Inner values by number, without sizes: the piece runs at several, and equal pieces look equal."""
    for number, node in enumerate(graph.all_nodes()):
        node.name, node.doc_string = f"n{number}", None
        node.metadata_props.clear()
        for index, value in enumerate(node.outputs):
            if value.name:
                value.name = f"v{number}_{index}"
            value.shape = value.type = None
            value.metadata_props.clear()
    for value in graph.inputs:
        value.shape = None if value.shape is None else ir.Shape([None] * len(value.shape))
        value.metadata_props.clear()


def _weights(graph: ir.Graph, values: Sequence[ir.Value]) -> dict[str, Weight]:
    """Rename weights by number; take the larger ones out of the graph and return them."""
    kept: dict[str, Weight] = {}
    for value in values:
        graph.initializers.pop(value.name or "")
    for number, value in enumerate(values):
        value.name, tensor = f"w{number}", value.const_value
        if tensor is None:
            raise ValueError("a weight has no data")
        if tensor.nbytes <= _INLINE or tensor.dtype == ir.DataType.STRING:
            graph.register_initializer(value)
            continue
        fed = tensor.nbytes >= _AS_INPUT and tensor.dtype.is_floating_point()
        fed = fed and all(user.domain == "" and user.graph is graph for user, _ in value.uses())
        kept[value.name] = Weight(_as_stored(graph, value, lazy(tensor)) if fed else lazy(tensor), fed)
        value.const_value = None
        if fed:
            value.shape, value.type = None, ir.TensorType(kept[value.name].expr.dtype)
            graph.inputs.append(value)
    return kept


def _as_stored(graph: ir.Graph, value: ir.Value, expr: Expr) -> Expr:
    """The weight in the order of its file, where its only user is a product: turning it is dear."""
    users = tuple(value.uses())
    node, index = users[0] if len(users) == 1 else (None, 0)
    if node is not None and node.op_type == "Transpose" and len(expr.shape) == 2:
        after = tuple(node.outputs[0].uses())
        if len(after) == 1 and after[0] == (after[0].node, 1) and after[0].node.op_type == "MatMul":
            _turning(after[0].node, value)
            graph.remove(node, safe=True)
            return expr
    turned = simplified(Transposed(expr, (1, 0))) if len(expr.shape) == 2 else expr
    if node is None or node.op_type != "MatMul" or index != 1 or _turns(turned):
        return expr
    _turning(node, value)
    return turned


def _turns(expr: Expr) -> bool:
    return isinstance(expr, Transposed) or any(_turns(source) for source in expr.sources)


def _turning(node: ir.Node, weight: ir.Value) -> None:
    """Make a MatMul multiply with the transpose of its second operand, `weight`."""
    node.replace_input_with(1, weight)
    node.domain, node.op_type = TRANSPOSING_PRODUCT
    node.attributes["transB"] = ir.AttrInt64("transB", 1)
