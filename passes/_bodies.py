"""What a branch, a loop or a function computes, as nodes of the graph around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import node_name, subgraphs_of

__all__ = ["Body", "body_of", "passed"]


@dataclass(frozen=True)
class Body:
    """Off-graph nodes, with the weights that they bring and what they give; given values may be inputs."""

    nodes: list[ir.Node]
    initializers: list[ir.Value]
    outputs: list[ir.Value]


def body_of(
    graph: ir.Graph | ir.Function,
    inputs: Sequence[ir.Value | None],
    label: str,
    attributes: Mapping[str, ir.Attr] | None = None,
) -> Body:
    """A copy of what `graph` does to `inputs`, its names below `label`; values around it stay what they are.

    `attributes` are those of a call, which a function's nodes refer to.
    """
    copy = graph.clone() if isinstance(graph, ir.Function) else graph.clone(allow_outer_scope_values=True)
    names = zip(copy.inputs, [*inputs, *[None] * (len(copy.inputs) - len(inputs))], strict=True)
    given = dict(names)
    outputs = [given.get(value, value) for value in copy.outputs]
    copy.outputs.clear()
    for old, new in given.items():
        for user, index in tuple(old.uses()):
            user.replace_input_with(index, new)
    nodes = list(copy)
    copy.remove(nodes)
    held: list[ir.Value] = []
    if isinstance(copy, ir.Graph):
        held = list(copy.initializers.values())
        copy.initializers.clear()
    for value in held:
        value.name = f"{label}/{value.name}"
    for node in _all(nodes):
        _rename(node, label)
        if attributes is not None:
            _resolve(node, attributes)
    return Body(nodes, held, [value for value in outputs if value is not None])


def passed(body: Body, replaced: Sequence[ir.Value]) -> dict[ir.Value, ir.Value]:
    """What takes the place of each value: what the body gives, or an Identity of what has a name."""
    found: dict[ir.Value, ir.Value] = {}
    made = {value for node in body.nodes for value in node.outputs}
    for old, new in zip(replaced, body.outputs, strict=True):
        value = new
        if old.is_graph_output() and (new not in made or new in found.values()):
            node = ir.Node("", "Identity", [new], name=f"{old.name}/passed")
            node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = (
                f"{old.name}/as-is",
                old.type,
                old.shape,
            )
            body.nodes.append(node)
            value = node.outputs[0]
        found[old] = value
    return found


def _all(nodes: Sequence[ir.Node]) -> Iterator[ir.Node]:
    for node in nodes:
        yield node
        for graph in subgraphs_of(node):
            yield from graph.all_nodes()


def _rename(node: ir.Node, label: str) -> None:
    node.name = f"{label}/{node_name(node)}"
    for value in node.outputs:
        if value.name:
            value.name = f"{label}/{value.name}"
    for graph in subgraphs_of(node):
        for value in (*graph.inputs, *graph.initializers.values()):
            value.name = f"{label}/{value.name}"


def _resolve(node: ir.Node, attributes: Mapping[str, ir.Attr]) -> None:
    for name, attribute in tuple(node.attributes.items()):
        if not attribute.is_ref():
            continue
        meant = attributes.get(attribute.ref_attr_name or "")
        if meant is None:
            del node.attributes[name]
        else:
            node.attributes[name] = ir.Attr(name, meant.type, meant.value)
