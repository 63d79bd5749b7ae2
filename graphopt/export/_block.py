"""The nodes of one layer in a traced graph, and what they read."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt.export._alike import Unlike

__all__ = ["Block"]


@dataclass
class Block:
    """`nodes` of the layer `index` of the module list `stack`, in order."""

    stack: str
    index: int
    nodes: list[ir.Node]
    places: dict[ir.Value, tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.places = {
            value: (p, k) for p, node in enumerate(self.nodes) for k, value in enumerate(node.outputs)
        }

    def at(self, place: tuple[int, int]) -> ir.Value:
        """The value at a place: a node's number, and that of its result."""
        return self.nodes[place[0]].outputs[place[1]]

    def reads(self) -> list[tuple[int, int, ir.Value]]:
        """What it reads of what is made elsewhere: node, input, value."""
        return [
            (p, k, value)
            for p, node in enumerate(self.nodes)
            for k, value in enumerate(node.inputs)
            if value is not None and value not in self.places
        ]

    def handed_on(self) -> list[ir.Value]:
        """What it makes that others read."""
        nodes = set(self.nodes)
        return [v for v in self.places if any(use.node not in nodes for use in v.uses())]

    def read_instead(self, value: ir.Value, other: ir.Value) -> None:
        """Have it read `other` wherever it reads `value`."""
        for p, k, read in self.reads():
            if read is value:
                self.nodes[p].replace_input_with(k, other)

    def name_in(self, value: ir.Value, index: int) -> str | None:
        """What `value`, its own weight, input or output, is called in the layer `index`; None for others."""
        name, number = str(value.name), f".{self.index}."
        if not (value.is_initializer() or value.is_graph_input() or value.is_graph_output()):
            return None
        if value.is_initializer():
            own = f"{self.stack}{number}"
            return f"{self.stack}.{index}.{name.removeprefix(own)}" if name.startswith(own) else None
        return name.replace(number, f".{index}.") if name.count(number) == 1 else None

    def described(self, entered: ir.Value) -> list[Hashable]:
        """Its nodes, but for names and the layer's number; `entered` is what the layer before hands on."""

        def role(value: ir.Value | None) -> Hashable:
            if value is None or value is entered:
                return value is None
            if value in self.places:
                return self.places[value]
            own = self.name_in(value, 0)
            return id(value) if own is None else (own, str(value.shape), value.dtype)

        return [
            (
                node.op_identifier(),
                tuple(sorted((a.name, a.type, _content(a)) for a in node.attributes.values())),
                tuple(role(value) for value in node.inputs),
                tuple((str(v.shape), v.dtype, self.name_in(v, 0)) for v in node.outputs),
            )
            for node in self.nodes
        ]

    def copied(self, index: int, replaced: Callable[[ir.Value], ir.Value]) -> Block:
        """The nodes of the layer `index`, reading what `replaced` gives for what this one reads elsewhere."""
        made: dict[ir.Value, ir.Value] = {}
        nodes = []
        for node in self.nodes:
            outputs = [
                _like(v, self.name_in(v, index) if v.is_graph_output() else v.name) for v in node.outputs
            ]
            inputs = [made[v] if v in made else v and replaced(v) for v in node.inputs]
            nodes.append(
                ir.Node(
                    node.domain,
                    node.op_type,
                    inputs,
                    node.attributes.values(),
                    overload=node.overload,
                    outputs=outputs,
                    version=node.version,
                    name=node.name,
                )
            )
            made |= zip(node.outputs, outputs, strict=True)
        return Block(self.stack, index, nodes)


def _like(value: ir.Value, name: str | None) -> ir.Value:
    shape = None if value.shape is None else ir.Shape(value.shape)
    return ir.Value(name=name, shape=shape, type=value.type)


def _content(attribute: ir.Attr) -> Hashable:
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        return tensor.dtype, str(tensor.shape), tensor.tobytes()
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        raise Unlike("a layer holds a graph")
    return repr(attribute.value)
