"""Examples in other surroundings: an inner value that is an output too, unnamed dimensions, a branch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.families import Case
from graphopt.ir import from_proto, infer_types, to_proto
from graphopt.testing._example import Example

__all__ = ["Variant", "variant"]

_CONDITION = "graphopt_condition"


@dataclass(frozen=True)
class Variant(Example):
    """`base`, changed. `leaked` counts the inner value that becomes an output (None: none does)."""

    base: Example
    leaked: int | None = None
    unnamed: bool = False
    in_branch: bool = False

    def __str__(self) -> str:
        changes = {
            "an inner value is an output": self.leaked is not None,
            "dimensions have no names": self.unnamed,
            "in a branch": self.in_branch,
        }
        said = ", ".join(change for change, made in changes.items() if made)
        return f"{self.base} ({said})" if said else str(self.base)

    def model(self) -> ir.Model:
        model = self.base.model()
        if self.leaked is not None:
            _leak(model, self.leaked)
        if self.unnamed:
            _forget_names(model)
        return _branched(model) if self.in_branch else model

    def cases(self) -> Iterator[Case]:
        for case in self.base.cases():
            if not self.in_branch:
                yield case
                continue
            for taken in (True, False):
                feeds = {**case.feeds, _CONDITION: np.asarray(taken)}
                yield Case(f"{case.name}, {taken}", feeds, case.compare, case.padding)


def variant(base: Example, leaked: int | None, unnamed: bool, in_branch: bool) -> Variant:
    """A variant of `base`; one whose inputs belong to a model family keeps its interface."""
    if "family" in base.header:
        leaked, unnamed, in_branch = None, False, False
    return Variant(base.path, base.header, base.before, base, leaked, unnamed, in_branch)


def _leak(model: ir.Model, index: int) -> None:
    infer_types(model)
    inner = [
        value
        for node in model.graph
        for value in node.outputs
        if value.name and value.dtype is not None and value.shape is not None and not value.is_graph_output()
    ]
    if inner:
        model.graph.outputs.append(inner[index % len(inner)])


def _forget_names(model: ir.Model) -> None:
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            value.shape = ir.Shape([d if isinstance(d, int) else None for d in value.shape])
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None


def _branched(model: ir.Model) -> ir.Model:
    """An If on a new input, with the whole graph in each of its branches."""
    proto = to_proto(model)
    graph = proto.graph
    branches = [_branch(graph, side) for side in ("then", "else")]
    node = onnx.helper.make_node(
        "If",
        [_CONDITION],
        [output.name for output in graph.output],
        name="graphopt_branches",
        then_branch=branches[0],
        else_branch=branches[1],
    )
    graph.input.append(onnx.helper.make_tensor_value_info(_CONDITION, onnx.TensorProto.BOOL, []))
    del graph.node[:], graph.value_info[:]
    graph.node.append(node)
    return from_proto(proto)


def _branch(graph: onnx.GraphProto, side: str) -> onnx.GraphProto:
    copy = onnx.GraphProto(name=side, node=graph.node, output=graph.output)
    names = {name: f"{name}_{side}" for name in _made(copy)}
    _rename([copy], names, side)
    return copy


def _made(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that the graph defines, in subgraphs too."""
    yield from (value.name for value in (*graph.input, *graph.initializer))
    for node in graph.node:
        yield from (name for name in node.output if name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _made(attribute.g)


def _rename(graphs: Sequence[onnx.GraphProto], names: dict[str, str], side: str) -> None:
    for graph in graphs:
        for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            value.name = names.get(value.name, value.name)
        for node in graph.node:
            node.name = f"{node.name}_{side}"
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
            _rename([a.g for a in node.attribute if a.HasField("g")], names, side)
