"""Rules about sizes that were meant to vary."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from graphopt.ir import const_of, node_name
from graphopt.lint import Finding, Subject, rule

_BROADCASTING = {"Add", "Div", "Equal", "Greater", "Less", "Mul", "Pow", "Sub", "Where"}


@rule("GO401", "frozen-size", "error")
def frozen_size(subject: Subject) -> Iterator[Finding]:
    """A size that the inputs leave open is one number inside the graph.

    A trace has written down the size of its sample: every other size fails in the call, or gives what the
    sample's size would. Tables of positions and masks as long as the sample, and shapes in Reshape, are where
    it happens.

    Export again with sizes that vary (dynamic_shapes), with a sample whose sizes are neither 1 nor equal.
    """
    for graph in subject.graphs:
        names: set[str | None] = {
            dim.value
            for value in graph.model.graph.inputs
            if value.shape is not None
            for dim in value.shape
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None and not dim.value.isdigit()
        }
        for node in graph.model.graph:
            said = None if node.domain else _frozen_by(node, names)
            if said is not None:
                yield Finding(graph.file, node_name(node), said)


def _frozen_by(node: ir.Node, names: set[str | None]) -> str | None:
    """What `node` says of a size that the inputs leave open: that it is one number."""
    if node.op_type == "Reshape":
        return _frozen_by_reshape(node, names)
    if node.op_type in _BROADCASTING:
        return _frozen_by_constant(node, names)
    return None


def _frozen_by_reshape(node: ir.Node, names: set[str | None]) -> str | None:
    x, shape = node.inputs[0], const_of(node.inputs[1])
    if x is None or x.shape is None or shape is None or (shape < 1).any():
        return None
    open_dims = [dim for dim in x.shape if isinstance(dim, ir.SymbolicDim)]
    if not open_dims or any(dim.value not in names for dim in open_dims):
        return None
    said = ", ".join(dict.fromkeys(str(dim.value) for dim in open_dims))
    return f"Reshape to {shape.tolist()} holds for one size of {said} only"


def _frozen_by_constant(node: ir.Node, names: set[str | None]) -> str | None:
    constants = [value for value in node.inputs if value is not None and value.const_value is not None]
    others = [value for value in node.inputs if value is not None and value.const_value is None]
    for constant in constants:
        if constant.is_graph_input() or constant.shape is None:
            continue
        sizes = constant.shape.numpy()
        for other in others:
            if other.shape is None:
                continue
            for back in range(1, min(len(sizes), len(other.shape)) + 1):
                dim = other.shape[-back]
                if sizes[-back] > 1 and isinstance(dim, ir.SymbolicDim) and dim.value in names:
                    return f"a constant of {sizes[-back]} stands beside {dim.value}, which may vary"
    return None


SHAPES = (frozen_size,)
