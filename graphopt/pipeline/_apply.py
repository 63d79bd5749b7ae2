"""Applies an edit to a graph with an undo log, so that a refused edit leaves no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import onnx_ir as ir

from graphopt.ir import subgraphs_of
from graphopt.pipeline._edit import Edit

__all__ = ["Applied", "EditError", "NoAdapter", "apply"]


class EditError(Exception):
    """An edit that cannot be applied as described; a mistake in the pass that made it."""


class NoAdapter(EditError):
    """An edit that changes what callers have to feed, and does not say how."""


class Applied:
    """An edit in force: `undo()` restores the graph exactly, `commit()` gives up that possibility."""

    def __init__(self) -> None:
        self._log: list[Callable[[], None]] = []
        self.markers: list[ir.Node] = []

    def record(self, undo: Callable[[], None]) -> None:
        self._log.append(undo)

    def undo(self) -> None:
        while self._log:
            self._log.pop()()

    def commit(self) -> None:
        for marker in self.markers:
            if marker.graph is not None:
                marker.graph.remove(marker)


def apply(graph: ir.Graph, edit: Edit, provenance: str) -> Applied:
    """Apply `edit` to `graph`; on any failure restore the graph and raise `EditError`."""
    _require_adapter(edit)
    applied = Applied()
    try:
        _add_initializers(graph, edit, applied)
        _insert(graph, edit, provenance, applied)
        for value in edit.add_inputs:
            _add_input(graph, value, applied)
        for old, new in edit.replace.items():
            becomes_output = old.is_graph_output()
            _redirect(old, new, fresh=new.producer() in edit.insert or new in edit.initializers, log=applied)
            if becomes_output and edit.adapter is None:
                _declare_like(old, new, applied)
        orphans = [v for node in edit.remove for v in node.inputs if v is not None and v.is_initializer()]
        for node in edit.remove:
            _remove(node, edit, applied)
        for value in dict.fromkeys((*orphans, *edit.drop_initializers)):
            _drop_initializer(value, applied)
        for value in edit.drop_inputs:
            _drop_input(graph, value, applied)
        if edit.opset is not None:
            _set_opset(graph, edit.opset, applied)
    except Exception as error:
        applied.undo()
        raise EditError(f"{edit.summary}: {error}") from error
    return applied


def _require_adapter(edit: Edit) -> None:
    """What callers have to feed changes with an adapter alone; inputs that have a default may come and go."""
    for change, values in (("adds", edit.add_inputs), ("drops", edit.drop_inputs)):
        for value in values:
            if edit.adapter is None and not value.is_initializer() and value not in edit.initializers:
                raise NoAdapter(f"it {change} the input {value.name!r} and brings no adapter")


def _taken(graph: ir.Graph, name: str) -> bool:
    return name in graph.initializers or any(v.name == name for v in graph.inputs)


def _add_initializers(graph: ir.Graph, edit: Edit, log: Applied) -> None:
    for value in edit.initializers:
        base, n = value.name or "weight", 0
        while _taken(graph, value.name or "weight"):
            n += 1
            value.name = f"{base}_{n}"
        graph.register_initializer(value)
        log.record(lambda value=value: graph.initializers.__delitem__(value.name))  # type: ignore[misc]


def _insert(graph: ir.Graph, edit: Edit, provenance: str, log: Applied) -> None:
    if not edit.insert:
        return
    there = {_spelling(node): node for node in edit.remove} if edit.opset is not None else {}
    for node in edit.insert:
        old = there.get(_spelling(node))
        said = provenance if old is None else old.metadata_props.get("graphopt.provenance")
        if said is not None:
            node.metadata_props.setdefault("graphopt.provenance", said)
    anchor = edit.before or _last(graph, edit)
    if anchor is not None:
        anchor.prepend(edit.insert)
    elif len(graph):
        graph[0].prepend(edit.insert)
    else:
        graph.extend(edit.insert)

    def undo() -> None:
        for node in reversed(edit.insert):
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)
        for node in edit.insert:
            graph.remove(node)

    log.record(undo)


def _spelling(node: ir.Node) -> tuple[object, ...]:
    """The same for a node and what another opset makes of it, where that is the node as it was."""
    return (node.name, *node.op_identifier(), *(value and value.name for value in node.inputs))


def _last(graph: ir.Graph, edit: Edit) -> ir.Node | None:
    if len(edit.remove) < 2:
        return edit.remove[0] if edit.remove else None
    wanted = set(edit.remove)
    return next((node for node in reversed(graph) if node in wanted), None)


def _add_input(graph: ir.Graph, value: ir.Value, log: Applied) -> None:
    graph.inputs.append(value)
    log.record(lambda: graph.inputs.remove(value))


def _drop_input(graph: ir.Graph, value: ir.Value, log: Applied) -> None:
    if value.uses():
        raise EditError(f"input {value.name!r} is still used")
    index = list(graph.inputs).index(value)
    del graph.inputs[index]
    log.record(lambda: graph.inputs.insert(index, value))


def _set_opset(graph: ir.Graph, version: int, log: Applied) -> None:
    old = graph.opset_imports.get("", version)
    graph.opset_imports[""] = version
    log.record(lambda: graph.opset_imports.__setitem__("", old))


def _redirect(old: ir.Value, new: ir.Value, *, fresh: bool, log: Applied) -> None:
    is_output = old.is_graph_output()
    if is_output and new.is_graph_output():
        raise EditError(f"output {old.name!r} would become the same value as output {new.name!r}")
    if is_output and (new.is_graph_input() or new.is_initializer()):
        raise EditError(f"output {old.name!r} needs an Identity: {new.name!r} has a name of its own")
    if new.shape is None and old.shape is not None:
        new.shape = old.shape.copy()
    if new.type is None and old.type is not None:
        new.type = copy.copy(old.type)
    inserted = set() if new.producer() is None else {new.producer()}
    for user, index in tuple(old.uses()):
        if user in inserted:
            continue
        user.replace_input_with(index, new)
        log.record(lambda user=user, index=index: user.replace_input_with(index, old))  # type: ignore[misc]
    if is_output:
        owner = old.graph
        assert owner is not None
        for index, output in enumerate(owner.outputs):
            if output is old:
                owner.outputs[index] = new
                log.record(lambda index=index: owner.outputs.__setitem__(index, old))  # type: ignore[misc]
    if (fresh and not new.is_initializer()) or is_output:
        old_name, new_name = old.name, new.name
        old.name, new.name = f"{old_name}.replaced", old_name

        def undo() -> None:
            new.name, old.name = new_name, old_name

        log.record(undo)


def _declare_like(old: ir.Value, new: ir.Value, log: Applied) -> None:
    """An edit without an adapter keeps the interface: the output's declared shape too."""
    shape, new.shape = new.shape, old.shape
    log.record(lambda: setattr(new, "shape", shape))


def _remove(node: ir.Node, edit: Edit, log: Applied) -> None:
    graph = node.graph
    if graph is None:
        raise EditError(f"node {node.name!r} is not in the graph")
    for output in node.outputs:
        leftover = {user for user, _ in output.uses() if user not in edit.remove}
        if leftover:
            leftover -= _held_by(edit.remove)
        if leftover or output.is_graph_output():
            raise EditError(f"value {output.name!r} of removed node {node.name!r} is still used")
    marker = ir.Node("graphopt", "Removed", (), num_outputs=0)
    node.prepend(marker)
    log.markers.append(marker)
    inputs = tuple(node.inputs)
    for index in range(len(inputs)):
        node.replace_input_with(index, None)
    graph.remove(node)

    def undo() -> None:
        marker.prepend(node)
        graph.remove(marker)
        for index, value in enumerate(inputs):
            node.replace_input_with(index, value)

    log.record(undo)


def _held_by(nodes: Sequence[ir.Node]) -> set[ir.Node]:
    """The nodes of the graphs that `nodes` hold, such as branches of an If."""
    return {inner for node in nodes for graph in subgraphs_of(node) for inner in graph.all_nodes()}


def _drop_initializer(value: ir.Value, log: Applied) -> None:
    graph = value.graph
    if graph is None or value.uses() or value.is_graph_output() or value.is_graph_input():
        return
    name = value.name
    assert name is not None
    del graph.initializers[name]
    log.record(lambda: graph.register_initializer(value))
