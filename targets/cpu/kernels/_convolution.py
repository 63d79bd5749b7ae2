"""Which convolutions of integers our kernel serves, and what it looks up in a table after them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ._known import FLOAT, INT8, INT32, OWN_DOMAIN, UINT8, Known
from ._tables import Chain, tables
from ._uses import Uses
from ._window import become_ours, describe, says, window

if TYPE_CHECKING:
    import onnx

__all__ = ["with_own_convolutions"]

_DOMAIN = "com.microsoft"
_LOOKED_UP = {"QLinearSigmoid", "QLinearLeakyRelu", "QLinearMul", "QLinearAdd"}
_MOST_PLACES = 64
"""Of a depthwise kernel: MOST_PLACES in convolution.h."""


def with_own_convolutions(model: onnx.ModelProto) -> bool:
    """Hand each QLinearConv of `model` that our kernel serves to it, in place; whether there are any.

    It is a graph that onnxruntime has optimized: convolutions of integers have their channels last. Served
    are those of uint8 with int8 weights around zero, a scale for each output, dense or depthwise. What only
    depends on a convolution's result, number by number, becomes a table of 256 entries, as onnxruntime
    computes them.
    """
    graph = model.graph
    known, uses = Known.of(graph), Uses.of(graph)
    found = [node for node in graph.node if _is_served(node, known)]
    chains = {node.output[0]: chain for node in found if (chain := _chain(node, uses, known)) is not None}
    looked_up = tables(list(chains.values()), known)
    for node in found:
        chain = chains.get(node.output[0])
        _become_ours(node, known)
        if chain is not None:
            table = f"{node.output[0]}/table"
            graph.initializer.append(_tensor(table, looked_up[chain.result]))
            node.input.extend([""] * (9 - len(node.input)))
            node.input.append(table)
            node.output[0] = chain.result
            for one in chain.nodes:
                graph.node.remove(one)
        describe(node, graph)
    if found and all(one.domain != OWN_DOMAIN for one in model.opset_import):
        model.opset_import.add(domain=OWN_DOMAIN, version=1)
    return bool(found)


def _is_served(node: onnx.NodeProto, known: Known) -> bool:
    if (node.op_type, node.domain) != ("QLinearConv", _DOMAIN) or len(node.input) not in (8, 9):
        return False
    _, x_scale, x_zero, weights, scales, zeros, y_scale, y_zero, *bias = node.input
    said = says(node)
    dims = known.dims(weights, INT8)
    if len(dims) != 4 or not all(dims) or said.get("channels_last") != 1:
        return False
    outputs, group = dims[0], said.get("group", 1)
    dense, depthwise = group == 1, group == outputs and dims[1] == 1 and prod(dims[2:]) <= _MOST_PLACES
    if not (dense or depthwise) or said.get("auto_pad", b"NOTSET") != b"NOTSET":
        return False
    if not all(known.is_constant(name, FLOAT, 1) for name in (x_scale, y_scale)):
        return False
    if not all(known.is_constant(name, UINT8, 1) for name in (x_zero, y_zero)):
        return False
    if not known.is_constant(scales, FLOAT, outputs) or set(known.numbers(zeros)) != {0}:
        return False
    return all(not name or known.is_constant(name, INT32, outputs) for name in bias)


def _chain(node: onnx.NodeProto, uses: Uses, known: Known) -> Chain | None:
    start: str = node.output[0]
    found: Chain | None = None
    inside, nodes = [start], list[Any]()
    for name in inside:
        for user in uses.used.get(name, []):
            if user in nodes or not _is_looked_up(user, inside, known):
                continue
            nodes.append(user)
            inside.append(user.output[0])
            seen = [one for one in inside if _is_used_beside(one, nodes, uses)]
            if len(seen) == 1 and seen[0] != start:
                found = Chain(start, list(nodes), seen[0])
    return found


def _is_looked_up(node: onnx.NodeProto, inside: list[str], known: Known) -> bool:
    if node.op_type not in _LOOKED_UP or node.domain != _DOMAIN:
        return False
    return all(name in inside or _is_number(name, known) for name in node.input if name)


def _is_number(name: str, known: Known) -> bool:
    return any(known.is_constant(name, kind, 1) for kind in (FLOAT, UINT8))


def _is_used_beside(name: str, nodes: list[onnx.NodeProto], uses: Uses) -> bool:
    return name in uses.outputs or any(user not in nodes for user in uses.used.get(name, []))


def _tensor(name: str, array: Any) -> onnx.TensorProto:
    from onnx import numpy_helper

    return numpy_helper.from_array(array, name)


def _become_ours(node: onnx.NodeProto, known: Known) -> None:
    outputs, deep, *kernel = known.dims(node.input[3], INT8)
    said = says(node)
    group = said.get("group", 1)
    numbers = {"channels": deep * group, "outputs": outputs, "group": group}
    become_ours(node, "Convolution", numbers | window(said, kernel))
