"""Whether a graph is well formed; run after every pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from graphopt.ir._expression import FileRange
from graphopt.ir._proto import checker_problems
from graphopt.ir._tensor import has_data, lazy
from graphopt.ir._walk import subgraphs_of

__all__ = ["check_structure"]


def check_structure(model: ir.Model) -> list[str]:
    """Everything that is wrong with the model, in words; an empty list where nothing is.

    Checks, in subgraphs and functions too: every value is made or fed before it is used, where its user can
    see it; names of values and nodes are unique; every domain is imported, the default one at an opset that
    exists; every weight has data, of the declared dtype and shape, and the file behind it is there and long
    enough; and onnx's own checker agrees, on a copy without weights (operators of domains it does not know
    pass). No weight is read.
    """
    problems = _opsets(model)
    sizes: dict[Path, int] = {}
    _Scope(model.opset_imports, sizes, problems).check(model.graph)
    for function in model.functions.values():
        _Scope(function.opset_imports, sizes, problems).check(function)
    return problems or checker_problems(model)


def _opsets(model: ir.Model) -> list[str]:
    version, newest = model.opset_imports.get(""), onnx.defs.onnx_opset_version()
    if version is None:
        return ["the default domain is not imported"]
    return [f"opset {version} does not exist: {newest} is the newest"] if version > newest else []


class _Scope:
    """The values and names that the nodes of a graph can see, with those of the graphs around it."""

    def __init__(
        self,
        opsets: Mapping[str, int],
        sizes: dict[Path, int],
        problems: list[str],
        outer: _Scope | None = None,
    ) -> None:
        self.opsets = opsets
        self.sizes = sizes
        self.problems = problems
        self.outer = outer
        self.values: set[ir.Value] = set()
        self.names: dict[str, ir.Value] = {}

    def check(self, graph: ir.Graph | ir.Function) -> None:
        for value in graph.inputs:
            self.define(value, "an input")
        if isinstance(graph, ir.Graph):
            for name, value in graph.initializers.items():
                if value not in self.values:
                    self.define(value, f"initializer {name!r}")
                if value.name != name:
                    self.problems.append(f"initializer {name!r} is called {value.name!r}")
                self.problems.extend(_weight_problems(value, self.sizes))
        node_names: set[str] = set()
        for node in graph:
            self.check_node(node, node_names)
        for value in graph.outputs:
            if not self.sees(value):
                self.problems.append(f"output {value.name!r} is not made by the graph")
        if not graph.outputs:
            self.problems.append(f"graph {graph.name!r} has no outputs")

    def check_node(self, node: ir.Node, names: set[str]) -> None:
        label = f"node {node.name!r} ({node.op_type})"
        if node.name:
            if node.name in names:
                self.problems.append(f"two nodes are called {node.name!r}")
            names.add(node.name)
        if node.domain not in self.opsets:
            self.problems.append(f"{label} is of domain {node.domain!r}, which is not imported")
        for value in node.inputs:
            if value is not None and not self.sees(value):
                why = "made later" if value.producer() is not None else "made nowhere"
                self.problems.append(f"{label} uses {value.name!r}, which is {why} or out of its sight")
        for graph in subgraphs_of(node):
            _Scope(self.opsets, self.sizes, self.problems, self).check(graph)
        for output in node.outputs:
            if output.name != "":
                self.define(output, f"an output of {label}")

    def define(self, value: ir.Value, what: str) -> None:
        if not value.name:
            self.problems.append(f"{what} has no name")
        elif self.named(value.name) is not None:
            self.problems.append(f"two values are called {value.name!r}: {what} is the second")
        else:
            self.names[value.name] = value
        self.values.add(value)

    def sees(self, value: ir.Value) -> bool:
        return value in self.values or (self.outer is not None and self.outer.sees(value))

    def named(self, name: str) -> ir.Value | None:
        return self.names.get(name) or (self.outer.named(name) if self.outer is not None else None)


def _weight_problems(value: ir.Value, sizes: dict[Path, int]) -> Iterator[str]:
    tensor = value.const_value
    if tensor is None:
        yield f"initializer {value.name!r} has no tensor"
        return
    if not has_data(tensor):
        yield f"initializer {value.name!r} has no data"
    if value.shape is not None and value.shape != tensor.shape:
        yield f"initializer {value.name!r} is declared {value.shape}, its data has shape {tensor.shape}"
    if value.dtype is not None and value.dtype != tensor.dtype:
        yield f"initializer {value.name!r} is declared {value.dtype}, its data is {tensor.dtype}"
    if not isinstance(tensor, ir.Tensor | ir.TensorProtoTensor | ir.StringTensor):
        for leaf in lazy(tensor).leaves():
            if isinstance(leaf, FileRange) and leaf.offset + leaf.length > _size(leaf.path, sizes):
                yield f"initializer {value.name!r} needs bytes of {leaf.path.name} that are not there"


def _size(path: Path, sizes: dict[Path, int]) -> int:
    if path not in sizes:
        sizes[path] = path.stat().st_size if path.is_file() else -1
    return sizes[path]
