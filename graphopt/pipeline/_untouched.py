"""Proves that a pass changed nothing but through its edits."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import InMemory, LazyTensor, lazy, subgraphs_of
from graphopt.pipeline._edit import Edit

__all__ = ["Untouched"]


@dataclass
class _Node:
    """What a node does, and what it takes: `makes` is operator, attributes and outputs."""

    makes: tuple[object, ...]
    takes: tuple[ir.Value | None, ...]


class Untouched:
    """What a model is expected to be while a pass edits it: as it was, and as its edits have made it.

    The passes' edits are checked one by one; everything else is as it was before because this says so.
    Nodes count with what they do and take, attributes and weights with what they hold now (of what is in a
    file, by identity), inputs and outputs with what they declare.
    Call `before` and `after` around the application of each edit. All three methods raise `ValueError`, with
    what is different, where the model is not as expected.
    """

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._nodes = {node: _Node(_makes(node), tuple(node.inputs)) for node in _all_nodes(model)}
        self._weights = {value: _held(value) for value in _all_weights(model)}
        self._subgraphs = tuple(model.graph.subgraphs())  # finding them takes a walk over every node
        self._interface = _interface(model, self._subgraphs)
        self._users: dict[ir.Node, None] = {}

    def before(self, edit: Edit) -> None:
        """To be called right before `edit` is applied."""
        self._check_interface(self._subgraphs)
        for node in _with_inner(edit.remove):
            self._check_node(node)
            for value in node.inputs:
                if value is not None and value.is_initializer():
                    self._check_weight(value)
        self._users = {user: None for old in edit.replace for user, _ in old.uses()}

    def after(self, edit: Edit) -> None:
        """To be called right after `edit` was applied."""
        for node in _with_inner(edit.remove):
            known = self._nodes.pop(node, None)
            for value in known.takes if known is not None else ():
                self._forget(value)
        for graph in _held_graphs(edit.remove):
            for value in graph.initializers.values():
                self._weights.pop(value, None)
        for value in edit.drop_initializers:
            self._forget(value)
        for user in self._users:
            if (known := self._nodes.get(user)) is not None:
                known.takes = tuple(edit.replace.get(v, v) if v is not None else None for v in known.takes)
        for node in _with_inner(edit.insert):
            self._nodes[node] = _Node(_makes(node), tuple(node.inputs))
        inner = (v for graph in _held_graphs(edit.insert) for v in graph.initializers.values())
        for value in (*edit.initializers, *inner):
            self._weights[value] = _held(value)
        if any(True for _ in _held_graphs((*edit.remove, *edit.insert))):
            self._subgraphs = tuple(self._model.graph.subgraphs())
        self._interface = _interface(self._model, self._subgraphs)

    def check(self) -> None:
        """To be called when the pass is over."""
        self._check_interface(self._model.graph.subgraphs())
        present = dict.fromkeys(_all_nodes(self._model))
        for node in present:
            self._check_node(node)
        for node in self._nodes:
            if node not in present:
                raise ValueError(f"node {node.name!r} ({node.op_type}) was removed")
        weights = dict.fromkeys(_all_weights(self._model))
        for value in weights:
            self._check_weight(value)
        for value in self._weights:
            if value not in weights:
                raise ValueError(f"weight {value.name!r} was removed")

    def _check_node(self, node: ir.Node) -> None:
        known = self._nodes.get(node)
        if known is None:
            raise ValueError(f"node {node.name!r} ({node.op_type}) was added")
        if known.makes != _makes(node):
            raise ValueError(f"node {node.name!r} ({node.op_type}) was changed")
        if known.takes != tuple(node.inputs):
            raise ValueError(f"node {node.name!r} ({node.op_type}) was given other inputs")

    def _check_weight(self, value: ir.Value) -> None:
        if value not in self._weights:
            raise ValueError(f"weight {value.name!r} was added")
        if self._weights[value] != _held(value):
            raise ValueError(f"weight {value.name!r} was changed")

    def _forget(self, value: ir.Value | None) -> None:
        if value is not None and value.graph is None:
            self._weights.pop(value, None)

    def _check_interface(self, subgraphs: Iterable[ir.Graph]) -> None:
        found = _interface(self._model, subgraphs)
        if found != self._interface:
            raise ValueError("inputs, outputs or opsets were changed")


def _all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _held_graphs(nodes: Iterable[ir.Node]) -> Iterator[ir.Graph]:
    """The graphs inside of `nodes`, such as branches of an If, at every depth."""
    for node in nodes:
        for graph in subgraphs_of(node):
            yield graph
            yield from graph.subgraphs()


def _with_inner(nodes: Sequence[ir.Node]) -> Iterator[ir.Node]:
    yield from nodes
    for graph in _held_graphs(nodes):
        yield from graph


def _makes(node: ir.Node) -> tuple[object, ...]:
    attributes = tuple((name, _said(a)) for name, a in sorted(node.attributes.items()))
    return (node.op_identifier(), attributes, tuple(map(id, node.outputs)))


def _said(attribute: ir.Attr) -> Hashable:
    """What an attribute says now; the nodes of a graph in it count by themselves."""
    match attribute.type:
        case _ if attribute.is_ref():
            return ("ref", attribute.ref_attr_name)
        case ir.AttributeType.TENSOR:
            return _content(attribute.as_tensor())
        case ir.AttributeType.TENSORS:
            return tuple(map(_content, attribute.as_tensors()))
        case ir.AttributeType.GRAPH | ir.AttributeType.GRAPHS:
            return id(attribute)
        case _:
            return f"{attribute.type} {attribute.value!r}"


def _all_weights(model: ir.Model) -> Iterator[ir.Value]:
    for graph in (model.graph, *model.graph.subgraphs()):
        yield from graph.initializers.values()


def _held(value: ir.Value) -> Hashable:
    return None if value.const_value is None else _content(value.const_value)


def _content(tensor: ir.TensorProtocol) -> Hashable:
    """What a tensor holds now and not when last asked; of what lies in a file, where."""
    if isinstance(tensor, LazyTensor | ir.ExternalTensor):
        expr = lazy(tensor)
        held = (leaf for leaf in expr.leaves() if isinstance(leaf, InMemory) and not _is_fixed(leaf.array))
        return (expr.identity, *(InMemory(leaf.array, leaf.kind).identity for leaf in held))
    array = np.asarray(tensor.numpy())
    if isinstance(tensor, ir.Tensor) and _is_fixed(array):
        return lazy(tensor).identity
    return InMemory(array, tensor.dtype).identity


def _is_fixed(array: np.ndarray) -> bool:
    """Whether nothing can write to it: its memory is that of a `bytes` object."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, bytes)


def _interface(model: ir.Model, subgraphs: Iterable[ir.Graph]) -> tuple[object, ...]:
    graph = model.graph
    ends = [(*graph.inputs,), (*graph.outputs,)]
    declared = [(v.name, str(v.type), str(v.shape)) for end in ends for v in end]
    inner = {g: (*g.inputs, None, *g.outputs) for g in subgraphs}
    return (ends, declared, inner, dict(graph.opset_imports), set(model.functions))
