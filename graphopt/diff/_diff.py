"""What changed between two models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.diff._correspondence import correspondence, nodes_of
from graphopt.diff._regions import Region, regions

__all__ = ["Diff", "diff"]


@dataclass(frozen=True)
class Diff:
    """`same` counts the nodes that both have; `interface` says how inputs, outputs and opsets differ.

    Nodes that only hold constants are not counted.
    """

    nodes_before: int
    nodes_after: int
    same: int
    interface: tuple[str, ...]
    regions: tuple[Region, ...]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.interface or self.regions)


def diff(before: ir.Model, after: ir.Model) -> Diff:
    """Compare two models by what their nodes compute, not by how these are called.

    A node is in both if operator, attributes and inputs are the same; weights count by content, and are read
    for it. Subgraphs are compared as a whole, with the node that has them.
    """
    a, b = before.graph, after.graph
    matched = correspondence(a, b)
    return Diff(
        len(nodes_of(a)),
        len(nodes_of(b)),
        len(matched.nodes),
        tuple(_interface(before, after)),
        tuple(regions(a, b, matched)),
    )


def _interface(before: ir.Model, after: ir.Model) -> Iterator[str]:
    a, b = before.graph, after.graph
    yield from _ports("input", _required(a), _required(b))
    yield from _ports("output", a.outputs, b.outputs)
    for domain in sorted({*a.opset_imports, *b.opset_imports}):
        one, other = a.opset_imports.get(domain), b.opset_imports.get(domain)
        if one != other:
            yield f"opset {domain or 'ai.onnx'}: {_or_none(one)} → {_or_none(other)}"


def _required(graph: ir.Graph) -> list[ir.Value]:
    return [value for value in graph.inputs if not value.is_initializer()]


def _ports(what: str, before: Sequence[ir.Value], after: Sequence[ir.Value]) -> Iterator[str]:
    a, b = ({value.name or "": _type(value) for value in side} for side in (before, after))
    for name in dict.fromkeys((*a, *b)):
        if a.get(name) != b.get(name):
            yield f"{what} {name}: {_or_none(a.get(name))} → {_or_none(b.get(name))}"


def _type(value: ir.Value) -> str:
    dtype = value.dtype.name.lower() if value.dtype is not None else "?"
    if value.shape is None:
        return f"{dtype}[?]"
    return f"{dtype}[{', '.join(str(d if isinstance(d, int) else d.value or '?') for d in value.shape)}]"


def _or_none(said: object) -> str:
    return "none" if said is None else str(said)
