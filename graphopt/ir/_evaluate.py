"""Cutting a piece out of a graph and running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from graphopt.ir._proto import to_proto

__all__ = ["evaluate", "extract"]


def extract(graph: ir.Graph, outputs: Sequence[ir.Value], opset_imports: Mapping[str, int] | None = None) -> ir.Model:
    """A model that computes `outputs` alone, from the graph inputs they depend on. The graph is left as it is."""
    needed: dict[ir.Node, None] = {}
    leaves: dict[ir.Value, None] = {}
    stack = list(outputs)
    while stack:
        value = stack.pop()
        node = value.producer()
        if node is None:
            leaves[value] = None
        elif node not in needed:
            needed[node] = None
            stack.extend(v for v in node.inputs if v is not None)
            for attribute in node.attributes.values():
                if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
                    raise ValueError(f"node {node.name!r} has a subgraph")
    copies: dict[ir.Value, ir.Value] = {}
    inputs, initializers = [], []
    for value in leaves:
        copy = ir.Value(name=value.name, shape=value.shape, type=value.type)
        copies[value] = copy
        if value.is_initializer() and not value.is_graph_input():
            copy.const_value = value.const_value
            initializers.append(copy)
        else:
            inputs.append(copy)
    nodes = [_copy(node, copies) for node in graph if node in needed]
    return ir.Model(
        ir.Graph(
            inputs,
            [copies[v] for v in outputs],
            nodes=nodes,
            initializers=initializers,
            opset_imports=dict(opset_imports or graph.opset_imports),
            name="piece",
        ),
        ir_version=10,
    )


def _copy(node: ir.Node, copies: dict[ir.Value, ir.Value]) -> ir.Node:
    new = ir.Node(
        node.domain,
        node.op_type,
        [None if v is None else copies[v] for v in node.inputs],
        attributes=tuple(node.attributes.values()),
        num_outputs=len(node.outputs),
        name=node.name,
    )
    for old, made in zip(node.outputs, new.outputs, strict=True):
        made.name, made.shape, made.type = old.name, old.shape, old.type
        copies[old] = made
    return new


def evaluate(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of `model` in onnxruntime on the CPU, the runtime's own optimizations off."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    for output in model.graph.outputs:
        output.shape = None
    payload = to_proto(model).SerializeToString()
    session = ort.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    return list(session.run(None, {k: v for k, v in feeds.items() if k in wanted}))
