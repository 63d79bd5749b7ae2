"""The nodes that make some values, as far up as a window reaches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from graphopt.ir import is_random, subgraphs_of, used_values

__all__ = ["Cone", "Derived", "collect", "takes_tensors", "upstream"]

_TABLE = 4096
"""Numbers up to which a constant of floats is no weight: slopes, frequencies, masks. A judgement."""


class Derived:
    """Which values follow from integer and boolean inputs, shapes and small constants alone.

    Masks, positions and lengths are such values: pieces are fed with what they are made from, because not
    every mask is a legal one. The answer for a value is kept, so it is of use only while one pass edits.
    """

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._known: dict[ir.Value, bool] = {}

    def __call__(self, value: ir.Value) -> bool:
        stack = [value]
        while stack:
            top = stack[-1]
            if top in self._known:
                stack.pop()
                continue
            node = top.producer()
            if node is None:
                self._known[top] = _is_control(top)
            elif node.op_type in ("Shape", "Size") and node.domain == "":
                self._known[top] = True
            elif any(True for _ in subgraphs_of(node)) or is_random(node, self._model):
                self._known[top] = False
            else:
                inputs = [v for v in node.inputs if v is not None]
                if any(self._known.get(v) is False for v in inputs):
                    self._known[top] = False
                elif waiting := [v for v in inputs if v not in self._known]:
                    stack.extend(waiting)
                    continue
                else:
                    self._known[top] = True
            stack.pop()
        return self._known[value]


def _is_control(value: ir.Value) -> bool:
    tensor = value.const_value
    if value.is_initializer() and tensor is not None:
        return not tensor.dtype.is_floating_point() or prod(tensor.shape.numpy()) <= _TABLE
    dtype = value.dtype
    return value.is_graph_input() and dtype is not None and (dtype.is_integer() or dtype == ir.DataType.BOOL)


def upstream(nodes: Iterable[ir.Node], depth: int) -> set[ir.Node]:
    found: set[ir.Node] = set()
    layer = set(nodes)
    for _ in range(depth):
        makers = {p for node in layer for v in used_values(node) if (p := v.producer()) is not None}
        layer = {node for node in makers - found if takes_tensors(node)}
        found |= layer
    return found


def takes_tensors(node: ir.Node) -> bool:
    """Whether arrays can be made for all that the node takes: not for a sequence."""
    return all(value.dtype is not None for value in used_values(node))


@dataclass
class Cone:
    nodes: list[ir.Node]
    leaves: dict[ir.Value, None]
    weights: dict[ir.Value, None]


def collect(
    outputs: Sequence[ir.Value], own: set[ir.Node], fed: Sequence[ir.Value], derived: Derived
) -> Cone:
    """Nodes that make `outputs`, in topological order: those of `own`, and what makes derived values.

    `fed` are values that will be inputs of the graph.
    """
    cone = Cone([], {}, {})
    visited: set[ir.Node] = set()

    def enter(value: ir.Value) -> ir.Node | None:
        node = value.producer()
        if node is not None and (node in own or derived(value)):
            return node
        if value in fed:
            cone.leaves[value] = None
        elif value.is_initializer() and not value.is_graph_input():
            cone.weights[value] = None
        elif node is not None or value.is_graph_input() or value.graph is not None:
            cone.leaves[value] = None
        elif value.const_value is not None:
            cone.weights[value] = None
        else:
            raise ValueError(f"value {value.name!r} comes from nowhere")
        return None

    stack = [(node, False) for value in reversed(outputs) if (node := enter(value)) is not None]
    while stack:
        node, finished = stack.pop()
        if finished:
            cone.nodes.append(node)
            continue
        if node in visited:
            continue
        visited.add(node)
        stack.append((node, True))
        for value in used_values(node):
            before = enter(value)
            if before is not None and before not in visited:
                stack.append((before, False))
    return cone
