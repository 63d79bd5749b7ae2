"""Who makes and who uses the values of a graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["Uses", "drop_unused", "is_operator"]


@dataclass(frozen=True)
class Uses:
    """Which node makes a value, and which use it, within If, Loop and Scan too."""

    made: dict[str, onnx.NodeProto]
    used: dict[str, list[onnx.NodeProto]]
    outputs: frozenset[str]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> Uses:
        used: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in _read(node):
                used.setdefault(name, []).append(node)
        made = {name: node for node in graph.node for name in node.output if name}
        return cls(made, used, frozenset(value.name for value in graph.output))

    def maker(self, name: str, op_type: str, inputs: int) -> onnx.NodeProto | None:
        """What makes `name`, if it is that operator of ONNX with so many inputs."""
        node = self.made.get(name)
        return node if node is not None and is_operator(node, op_type, inputs) else None

    def user(self, name: str, op_type: str, inputs: int) -> onnx.NodeProto | None:
        """What uses `name`, if it is that operator and nothing else does: the graph's results neither."""
        users = self.used.get(name, [])
        if len(users) != 1 or name in self.outputs or not is_operator(users[0], op_type, inputs):
            return None
        return users[0]


def is_operator(node: onnx.NodeProto, op_type: str, inputs: int) -> bool:
    """Whether it is that operator of ONNX with so many inputs, all of them given."""
    return (node.op_type, node.domain, len(node.input)) == (op_type, "", inputs) and all(node.input)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the nodes whose outputs nothing uses."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(_read(node))
    kept.reverse()
    if len(kept) < len(graph.node):
        nodes = [type(node).FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(nodes)


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node refers to, an optional input's empty one left out."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            yield from (value.name for value in inner.output)
            for one in inner.node:
                yield from _read(one)
