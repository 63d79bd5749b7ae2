"""Which values and nodes of two graphs are each other's."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt.ir import InMemory, const_of, digest, has_data, lazy, node_signature

__all__ = ["Correspondence", "correspondence", "is_constant", "is_weight", "nodes_of"]


@dataclass
class Correspondence:
    """Values and nodes of graph `a` with those of graph `b` that stand for them.

    Nodes are the same if operator, attributes and inputs are; a weight's content counts, not its place or
    name. Values correspond if they are made by the same nodes, or are inputs, outputs or inner values of one
    name: what lies between such anchors has changed.
    """

    values: dict[ir.Value, ir.Value] = field(default_factory=dict)
    nodes: dict[ir.Node, ir.Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.back = {b: a for a, b in self.values.items()}

    def add(self, a: ir.Value, b: ir.Value) -> bool:
        """Let `a` and `b` stand for each other, unless one has a counterpart already."""
        if a in self.values or b in self.back:
            return False
        self.values[a], self.back[b] = b, a
        return True


def correspondence(a: ir.Graph, b: ir.Graph) -> Correspondence:
    """What of `a` is in `b`; weights of equal dtype and shape are read to compare them."""
    return _Matching(a, b).run()


def is_constant(node: ir.Node) -> bool:
    """Whether it only holds a weight."""
    return node.op_type == "Constant" and not node.domain


def is_weight(value: ir.Value) -> bool:
    """An initializer that no caller can replace, or what a Constant holds."""
    node = value.producer()
    return (value.is_initializer() and not value.is_graph_input()) or (node is not None and is_constant(node))


def nodes_of(graph: ir.Graph) -> list[ir.Node]:
    """Its nodes in order, without those that only hold weights."""
    return [node for node in graph if not is_constant(node)]


class _Matching:
    def __init__(self, a: ir.Graph, b: ir.Graph) -> None:
        self.a, self.b = a, b
        self.matched = Correspondence()
        self.weights = _Weights(a, b)
        self.signature = {node: node_signature(node) for graph in (a, b) for node in nodes_of(graph)}

    def run(self) -> Correspondence:
        for one, other in ((self.a.inputs, self.b.inputs), (self.a.outputs, self.b.outputs)):
            known = {value.name: value for value in other}
            for value in one:
                if value.name in known:
                    self.matched.add(value, known[value.name])
        self.forward()
        self.by_name()
        while self.forward() or self.backward():
            pass
        self.matched.nodes = dict(self.same())
        return self.matched

    def forward(self) -> bool:
        """Pair the outputs of nodes that are alike and whose inputs correspond."""
        offered: defaultdict[object, deque[ir.Node]] = defaultdict(deque)
        for node in nodes_of(self.b):
            if not all(value in self.matched.back for value in node.outputs):
                offered[self.key(node, self.matched.back.keys())].append(node)
        more = False
        for node in nodes_of(self.a):
            if all(value in self.matched.values for value in node.outputs):
                continue
            key = self.key(node, self.matched.values.keys())
            if key is not None and offered[key]:
                other = offered[key].popleft()
                for pair in zip(node.outputs, other.outputs, strict=True):
                    more |= self.matched.add(*pair)
        return more

    def key(self, node: ir.Node, known: Iterable[ir.Value]) -> object:
        """Equal for nodes of the two graphs that compute the same of corresponding values."""
        inputs = []
        for value in node.inputs:
            if value is None:
                inputs.append("")
            elif is_weight(value):
                inputs.append(self.weights.content(value))
            elif value in known:
                inputs.append(str(id(self.matched.values.get(value, value))))
            else:
                return None
        return (self.signature[node], *inputs)

    def by_name(self) -> None:
        known = {value.name: value for node in nodes_of(self.b) for value in node.outputs if value.name}
        for node in nodes_of(self.a):
            for value in node.outputs:
                other = known.get(value.name or "")
                if other is not None and (value.dtype, _rank(value)) == (other.dtype, _rank(other)):
                    self.matched.add(value, other)

    def backward(self) -> bool:
        """Pair the inputs of nodes that are alike and whose outputs correspond."""
        more = False
        for value, other in tuple(self.matched.values.items()):
            node, twin = value.producer(), other.producer()
            if node is None or twin is None or is_constant(node) or is_constant(twin):
                continue
            if self.signature[node] != self.signature[twin] or len(node.inputs) != len(twin.inputs):
                continue
            for x, y in zip(node.inputs, twin.inputs, strict=True):
                if x is not None and y is not None and not is_weight(x) and not is_weight(y):
                    more |= self.matched.add(x, y)
        return more

    def same(self) -> Iterator[tuple[ir.Node, ir.Node]]:
        for node in nodes_of(self.a):
            twins = {self.matched.values.get(value) for value in node.outputs}
            makers = {value.producer() for value in twins if value is not None}
            twin = makers.pop() if len(makers) == 1 and None not in twins else None
            if twin is None or is_constant(twin):
                continue
            key = self.key(node, self.matched.values.keys())
            if key is not None and key == self.key(twin, self.matched.back.keys()):
                yield node, twin


class _Weights:
    """Tells weights of two graphs apart by content; those of a dtype and shape only one has are not read."""

    def __init__(self, a: ir.Graph, b: ir.Graph) -> None:
        kinds = [{_kind(value) for value in _weights_of(graph)} for graph in (a, b)]
        self.shared = kinds[0] & kinds[1]
        self.known: dict[object, str] = {}

    def content(self, value: ir.Value) -> str:
        kind = _kind(value)
        if kind not in self.shared:
            return str(id(value))
        array, tensor = const_of(value), value.const_value
        if array is not None:
            return digest(InMemory(array))
        if tensor is None or not has_data(tensor):
            return f"{value.name} {kind}"
        expr = lazy(tensor)
        if expr.identity not in self.known:
            self.known[expr.identity] = digest(expr)
        return self.known[expr.identity]


def _weights_of(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from (value for value in node.inputs if value is not None and is_weight(value))


def _kind(value: ir.Value) -> str:
    array = const_of(value)
    if array is not None:
        return f"{array.dtype} {list(array.shape)}"
    dtype = value.dtype.numpy() if value.dtype is not None else None
    return f"{dtype} {list(value.shape or ())}"


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)
