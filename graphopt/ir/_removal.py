"""Which nodes can go: what an edit leaves without a use, and what stands in its way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import onnx_ir as ir

__all__ = ["leak", "orphans"]


def orphans(removed: Iterable[ir.Node], kept: Collection[ir.Value]) -> list[ir.Node]:
    """`removed`, and every node before them that then has no use, `kept` being values that new nodes use."""
    gone = dict.fromkeys(removed)
    stack = [value.producer() for node in gone for value in node.inputs if value is not None]
    while stack:
        node = stack.pop()
        if node is None or node in gone or not all(_unused(output, gone, kept) for output in node.outputs):
            continue
        gone[node] = None
        stack.extend(value.producer() for value in node.inputs if value is not None)
    return list(gone)


def _unused(value: ir.Value, gone: Collection[ir.Node], kept: Collection[ir.Value]) -> bool:
    return not value.is_graph_output() and value not in kept and all(user in gone for user, _ in value.uses())


def leak(nodes: Sequence[ir.Node]) -> str | None:
    """The reason not to take `nodes` away: one but the first makes a value that is used outside them."""
    inside = set(nodes)
    for node in nodes:
        if node is nodes[0]:
            continue
        for value in node.outputs:
            if value.is_graph_output() or any(user not in inside for user, _ in value.uses()):
                return f"an inner value has another use: {value.name}"
    return None
