"""What another opset does to the nodes that stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from graphopt.ir import subgraphs_of

if TYPE_CHECKING:
    from graphopt.pipeline import Edit

__all__ = ["changed_meaning"]


def changed_meaning(model: ir.Model, edit: Edit) -> str | None:
    """Which node that `edit` leaves is of another version of its operator then, in words; None if none is."""
    if edit.opset is None:
        return None
    old = model.opset_imports.get("", edit.opset)
    for node in _staying(model.graph, set(edit.remove)):
        if node.domain == "" and _version(node, old) != _version(node, edit.opset):
            return f"at opset {edit.opset}, node {node.name!r} is of another version of {node.op_type}"
    return None


def _staying(graph: ir.Graph, removed: set[ir.Node]) -> Iterator[ir.Node]:
    for node in graph:
        if node in removed:
            continue
        yield node
        for inner in subgraphs_of(node):
            yield from _staying(inner, removed)


def _version(node: ir.Node, opset: int) -> int | None:
    try:
        return int(onnx.defs.get_schema(node.op_type, opset).since_version)
    except onnx.defs.SchemaError:
        return None
