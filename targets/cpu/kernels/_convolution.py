"""Which convolutions of integers our kernel serves, and what it looks up in a table after them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from ._known import FLOAT, INT8, INT32, OWN_DOMAIN, UINT8, Known
from ._uses import Uses

if TYPE_CHECKING:
    import onnx

__all__ = ["with_own_convolutions"]

_DOMAIN = "com.microsoft"
_LOOKED_UP = {"QLinearSigmoid", "QLinearLeakyRelu", "QLinearMul", "QLinearAdd"}
_ALL = "every uint8"
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
    tables = _tables(chains, known)
    described = {value.name for value in (*graph.value_info, *graph.output)}
    for node in found:
        chain = chains.get(node.output[0])
        _become_ours(node, known)
        if chain is not None:
            table = f"{node.output[0]}/table"
            graph.initializer.append(_tensor(table, tables[chain.result]))
            node.input.extend([""] * (9 - len(node.input)))
            node.input.append(table)
            node.output[0] = chain.result
            for one in chain.nodes:
                graph.node.remove(one)
        if node.output[0] not in described:
            graph.value_info.append(_image(node.output[0]))
    if found and all(one.domain != OWN_DOMAIN for one in model.opset_import):
        model.opset_import.add(domain=OWN_DOMAIN, version=1)
    return bool(found)


def _is_served(node: onnx.NodeProto, known: Known) -> bool:
    if (node.op_type, node.domain) != ("QLinearConv", _DOMAIN) or len(node.input) not in (8, 9):
        return False
    _, x_scale, x_zero, weights, scales, zeros, y_scale, y_zero, *bias = node.input
    says = _says(node)
    dims = known.dims(weights, INT8)
    if len(dims) != 4 or not all(dims) or says.get("channels_last") != 1:
        return False
    outputs, group = dims[0], says.get("group", 1)
    dense, depthwise = group == 1, group == outputs and dims[1] == 1 and prod(dims[2:]) <= _MOST_PLACES
    if not (dense or depthwise) or says.get("auto_pad", b"NOTSET") != b"NOTSET":
        return False
    if not all(known.is_constant(name, FLOAT, 1) for name in (x_scale, y_scale)):
        return False
    if not all(known.is_constant(name, UINT8, 1) for name in (x_zero, y_zero)):
        return False
    if not known.is_constant(scales, FLOAT, outputs) or set(known.numbers(zeros)) != {0}:
        return False
    return all(not name or known.is_constant(name, INT32, outputs) for name in bias)


@dataclass(frozen=True)
class _Chain:
    """Nodes after a convolution that make of its result, number by number, one that is used."""

    start: str
    nodes: list[onnx.NodeProto]
    result: str


def _chain(node: onnx.NodeProto, uses: Uses, known: Known) -> _Chain | None:
    start: str = node.output[0]
    found: _Chain | None = None
    inside, nodes = [start], list[Any]()
    for name in inside:
        for user in uses.used.get(name, []):
            if user in nodes or not _is_looked_up(user, inside, known):
                continue
            nodes.append(user)
            inside.append(user.output[0])
            seen = [one for one in inside if _is_used_beside(one, nodes, uses)]
            if len(seen) == 1 and seen[0] != start:
                found = _Chain(start, list(nodes), seen[0])
    return found


def _is_looked_up(node: onnx.NodeProto, inside: list[str], known: Known) -> bool:
    if node.op_type not in _LOOKED_UP or node.domain != _DOMAIN:
        return False
    return all(name in inside or _is_number(name, known) for name in node.input if name)


def _is_number(name: str, known: Known) -> bool:
    return any(known.is_constant(name, kind, 1) for kind in (FLOAT, UINT8))


def _is_used_beside(name: str, nodes: list[onnx.NodeProto], uses: Uses) -> bool:
    return name in uses.outputs or any(user not in nodes for user in uses.used.get(name, []))


def _tables(chains: dict[str, _Chain], known: Known) -> dict[str, Any]:
    """What each chain makes of 0 to 255, by the name of its result, as onnxruntime computes it."""
    import numpy as np
    from onnx import TensorProto, helper

    from graphopt.runtime import session_of

    if not chains:
        return {}
    nodes = []
    for chain in chains.values():
        for node in chain.nodes:
            one = type(node).FromString(node.SerializeToString())
            one.input[:] = [_ALL if name == chain.start else name for name in one.input]
            nodes.append(one)
    results = [chain.result for chain in chains.values()]
    constants = {name for node in nodes for name in node.input if name in known.constants}
    graph = helper.make_graph(
        nodes,
        "tables",
        [helper.make_tensor_value_info(_ALL, TensorProto.UINT8, [256])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [256]) for name in results],
        [known.constants[name] for name in sorted(constants)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = session_of(model.SerializeToString())
    every = np.arange(256, dtype=np.uint8)
    return dict(zip(results, session.run(results, {_ALL: every}), strict=True))


def _image(name: str) -> onnx.ValueInfoProto:
    """That `name` has four axes: from the shape of a result of unknown rank onnxruntime (1.32) infers sizes
    that are no sizes, and refuses a Resize to them.
    """
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.UINT8, [None] * 4)


def _tensor(name: str, array: Any) -> onnx.TensorProto:
    from onnx import numpy_helper

    return numpy_helper.from_array(array, name)


def _says(node: onnx.NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _become_ours(node: onnx.NodeProto, known: Known) -> None:
    from onnx import helper

    outputs, deep, *kernel = known.dims(node.input[3], INT8)
    says = _says(node)
    group = says.get("group", 1)
    strides, dilations = (says.get(name, [1, 1]) for name in ("strides", "dilations"))
    top, left, bottom, right = says.get("pads", [0, 0, 0, 0])
    numbers = {"channels": deep * group, "outputs": outputs, "group": group}
    for name, pair in (("kernel", kernel), ("stride", strides), ("dilation", dilations)):
        numbers |= {f"{name}_height": pair[0], f"{name}_width": pair[1]}
    numbers |= {"pad_top": top, "pad_left": left, "pad_bottom": bottom, "pad_right": right}
    node.op_type, node.domain = "Convolution", OWN_DOMAIN
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in numbers.items())
