"""Cutting a piece out of a graph and running it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir._proto import to_proto
from graphopt.ir._walk import subgraphs_of

__all__ = ["evaluate", "evaluator", "extract", "used_values"]

_IR_VERSION = 10  # of onnx 1.16; every onnxruntime that is supported reads it


def extract(
    graph: ir.Graph,
    outputs: Sequence[ir.Value],
    opset_imports: Mapping[str, int] | None = None,
    *,
    cut: Collection[ir.Value] = (),
) -> ir.Model:
    """A model of its own that computes `outputs` from those graph inputs alone that they depend on.

    Inner values in `cut` become inputs too, in place of what computes them. Inputs and outputs keep their
    names and the order that `graph` and `outputs` have; weights are shared, not copied; an input with a
    default keeps it. `graph` may be a subgraph: values of outer graphs become inputs, or weights where they
    are; pass the model's `opset_imports` then. `graph` is left as it is.
    """
    needed: dict[ir.Node, None] = {}
    leaves: dict[ir.Value, None] = {}
    stack = list(outputs)
    while stack:
        value = stack.pop()
        node = value.producer()
        if node is None or node.graph is not graph or value in cut:
            leaves[value] = None
        elif node not in needed:
            needed[node] = None
            stack.extend(used_values(node))
    weights = [value for value in leaves if value.is_initializer()]
    inputs = [value for value in graph.inputs if value in leaves]
    inputs += [value for value in leaves if value not in graph.inputs and not value.is_initializer()]
    view = ir.GraphView(
        inputs,
        outputs,
        nodes=[node for node in graph if node in needed],
        initializers=weights,
        opset_imports=dict(opset_imports or graph.opset_imports),
        name=graph.name or "piece",
    )
    return ir.Model(view.clone(), ir_version=_IR_VERSION)


def used_values(node: ir.Node) -> Iterator[ir.Value]:
    """The values that `node` reads, those that its subgraphs take from outside included."""
    yield from (value for value in node.inputs if value is not None)
    for graph in subgraphs_of(node):
        yield from _captured(graph)


def _captured(graph: ir.Graph) -> list[ir.Value]:
    own = {*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)}
    used = dict.fromkeys((*(value for node in graph for value in used_values(node)), *graph.outputs))
    return [value for value in used if value not in own]


def evaluate(model: ir.Model, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Outputs of `model` in onnxruntime on the CPU with one thread, the runtime's own optimizations off.

    `feeds` may name more than the model takes. Weights are held in memory: for pieces of models. Raises what
    onnxruntime raises where the model cannot run. `evaluator` opens a model once for many feeds.
    """
    return evaluator(model)(feeds)


def evaluator(model: ir.Model) -> Callable[[Mapping[str, npt.NDArray[Any]]], list[npt.NDArray[Any]]]:
    """What gives for `feeds` the outputs of `model` as it is now: `evaluate`, opened once for all of them.

    Opening takes longer than a small piece runs. Raises what onnxruntime raises where it cannot be opened.
    """
    import onnxruntime as ort

    proto = to_proto(model)
    for output in proto.graph.output:
        # The piece may be run at shapes that its model does not declare.
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in model.graph.inputs}

    def run(feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        return [np.asarray(y) for y in session.run(None, {k: v for k, v in feeds.items() if k in wanted})]

    return run
