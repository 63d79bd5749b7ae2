"""Whether a graph is well formed; run after every pass."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from graphopt.ir import has_data, to_proto

__all__ = ["check_structure"]


def check_structure(model: ir.Model) -> list[str]:
    """Everything that is wrong with the model, in words; an empty list where nothing is.

    Checks: every value is made or fed before it is used, and lives in a visible graph; names are unique;
    every domain is imported; weights have data of the declared shape; onnx's own checker (on a copy without
    weights; operators of domains it does not know are passed over).
    """
    problems: list[str] = []
    _check_graph(model.graph, set(), problems)
    for node in model.graph.all_nodes():
        if node.domain not in model.opset_imports:
            problems.append(f"node {node.name!r}: domain {node.domain!r} is not imported")
    return problems or _onnx_checker(model)


def _check_graph(graph: ir.Graph, outer: set[ir.Value], problems: list[str]) -> None:
    known = set(outer)
    names: dict[str, ir.Value] = {}

    def define(value: ir.Value, what: str) -> None:
        if not value.name:
            problems.append(f"{what} has no name")
        elif value.name in names and names[value.name] is not value:
            problems.append(f"two values are called {value.name!r}")
        else:
            names[value.name] = value
        known.add(value)

    for value in graph.inputs:
        define(value, "an input")
    for value in graph.initializers.values():
        define(value, "an initializer")
        _check_weight(value, problems)
    node_names: set[str] = set()
    for node in graph:
        if node.name and node.name in node_names:
            problems.append(f"two nodes are called {node.name!r}")
        node_names.add(node.name or "")
        for value in node.inputs:
            if value is not None and value not in known:
                problems.append(f"node {node.name!r} ({node.op_type}) uses {value.name!r} before it is made")
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                _check_graph(attribute.as_graph(), known, problems)
            elif attribute.type == ir.AttributeType.GRAPHS:
                for inner in attribute.as_graphs():
                    _check_graph(inner, known, problems)
        for output in node.outputs:
            if output.name != "":
                define(output, f"an output of node {node.name!r}")
    for value in graph.outputs:
        if value not in known:
            problems.append(f"output {value.name!r} is not made by the graph")
    if not graph.outputs:
        problems.append(f"graph {graph.name!r} has no outputs")


def _check_weight(value: ir.Value, problems: list[str]) -> None:
    tensor = value.const_value
    if tensor is None:
        problems.append(f"initializer {value.name!r} has no tensor")
    elif not has_data(tensor):
        problems.append(f"initializer {value.name!r} has no data")
    elif value.shape is not None and list(value.shape) != list(tensor.shape):
        problems.append(f"initializer {value.name!r} is declared {value.shape}, its data has shape {tensor.shape}")
    elif value.dtype is not None and value.dtype != tensor.dtype:
        problems.append(f"initializer {value.name!r} is declared {value.dtype}, its data is {tensor.dtype}")


def _onnx_checker(model: ir.Model) -> list[str]:
    proto = to_proto(model, weights="none")
    for graph_initializer in list(proto.graph.initializer):
        if graph_initializer.data_location == onnx.TensorProto.EXTERNAL:
            proto.graph.input.append(
                onnx.helper.make_tensor_value_info(
                    graph_initializer.name, graph_initializer.data_type, list(graph_initializer.dims)
                )
            )
            proto.graph.initializer.remove(graph_initializer)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        return [f"onnx.checker: {error}"]
    return []
