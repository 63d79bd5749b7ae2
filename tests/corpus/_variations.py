"""One graph in other surroundings: inputs as constants, twice in one graph, in both branches of an If."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.corpus._cases import Case

CONDITION = "corpus_condition"


class Unsuited(Exception):
    """Why a case cannot be varied so."""


def as_it_is(case: Case) -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """The case unchanged."""
    return case.model, [case.feeds]


def constant_inputs(case: Case) -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """Every input an initializer."""
    model = _copy(case.model)
    if not case.feeds:
        raise Unsuited("it has no inputs")
    for name, value in case.feeds.items():
        if not isinstance(value, np.ndarray):
            raise Unsuited("an input is no tensor")
        declared = next(i for i in model.graph.input if i.name == name).type.tensor_type
        model.graph.initializer.append(_initializer(name, value, declared.elem_type))
    kept = [i for i in model.graph.input if i.name not in case.feeds]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    if model.ir_version < 4:
        model.ir_version = 4
    return model, [{}]


def duplicated(case: Case) -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """Every node a second time, on the same inputs, with outputs of its own."""
    model = _copy(case.model)
    outer = {i.name for i in model.graph.input} | {t.name for t in model.graph.initializer}
    outer |= {t.values.name for t in model.graph.sparse_initializer}
    again = _copy(case.model)
    _rename(again.graph, lambda name: f"{name}__again", outer)
    if {o.name for o in case.model.graph.output} & outer:
        raise Unsuited("an output is an input")
    model.graph.node.extend(again.graph.node)
    model.graph.output.extend(again.graph.output)
    return model, [case.feeds]


def inside_an_if(case: Case) -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """The nodes in both branches of an If; inputs and initializers stay outside."""
    model = _copy(case.model)
    outer = {i.name for i in model.graph.input} | {t.name for t in model.graph.initializer}
    if {o.name for o in case.model.graph.output} & outer:
        raise Unsuited("an output is an input")
    branches = []
    for label in ("then", "else"):
        graph = _copy(case.model).graph
        _rename(graph, lambda name, label=label: f"{name}__{label}", outer)
        branch = helper.make_graph(list(graph.node), label, [], list(graph.output))
        branch.value_info.extend(graph.value_info)
        branches.append(branch)
    outputs = [o.name for o in model.graph.output]
    node = helper.make_node("If", [CONDITION], outputs, then_branch=branches[0], else_branch=branches[1])
    del model.graph.node[:]
    del model.graph.value_info[:]
    model.graph.node.append(node)
    model.graph.input.append(helper.make_tensor_value_info(CONDITION, onnx.TensorProto.BOOL, []))
    if not any(o.domain in ("", "ai.onnx") for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 21))
    return model, [case.feeds | {CONDITION: np.array(value)} for value in (True, False)]


Varied = Callable[[Case], tuple[onnx.ModelProto, list[dict[str, Any]]]]
VARIATIONS: dict[str, Varied] = {
    "as it is": as_it_is,
    "inputs constant": constant_inputs,
    "twice": duplicated,
    "in an If": inside_an_if,
}


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _initializer(name: str, value: np.ndarray, kind: int) -> onnx.TensorProto:
    if kind == onnx.TensorProto.STRING:
        return helper.make_tensor(name, kind, value.shape, [str(v).encode() for v in value.reshape(-1)])
    tensor = numpy_helper.from_array(value, name)
    if tensor.data_type != kind:
        raise Unsuited("numpy has no such type")
    return tensor


def _rename(graph: onnx.GraphProto, change: Callable[[str], str], kept: Container[str]) -> None:
    """Change every name in `graph` and its subgraphs but those in `kept`, and the empty one."""

    def changed(names: Iterable[str]) -> list[str]:
        return [n if not n or n in kept else change(n) for n in names]

    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        (value.name,) = changed([value.name])
    for node in graph.node:
        inputs, outputs = changed(node.input), changed(node.output)
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        node.output.extend(outputs)
        if node.name:
            node.name = change(node.name)
        for attribute in node.attribute:
            for sub in (attribute.g, *attribute.graphs):
                _rename(sub, change, kept)
