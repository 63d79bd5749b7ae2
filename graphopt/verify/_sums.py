"""Which named sizes are sums of others: what joins values along an axis says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

__all__ = ["completed", "parts_of", "sums_of"]

Sums = Mapping[str, tuple[int | str, ...]]


def sums_of(graph: ir.Graph) -> dict[str, tuple[int | str, ...]]:
    """The names of sizes that are sums of others, with these: `total` of `past` and `sequence`.

    A Concat makes such, and an Attention that is given what was before.
    """
    found: dict[str, tuple[int | str, ...]] = {}
    for node in graph:
        made, *parts = _joined(node)
        known = [part for part in parts if part is not None]
        if isinstance(made, str) and made.isidentifier() and len(known) == len(parts) and made not in known:
            found.setdefault(made, tuple(known))
    return found


def _joined(node: ir.Node) -> Sequence[int | str | None]:
    """The size of what `node` joins along an axis, and those of its parts."""
    if node.domain == "" and node.op_type == "Concat":
        axis = node.attributes.get_int("axis", 0)
        return [_dim(value, axis) for value in (node.outputs[0], *node.inputs)]
    if node.domain == "" and node.op_type == "Attention" and len(node.inputs) > 4 and len(node.outputs) > 1:
        keys = node.inputs[1]
        axis = 1 if keys is not None and keys.shape is not None and len(keys.shape) == 3 else 2
        return [_dim(node.outputs[1], 2), _dim(node.inputs[4], 2), _dim(keys, axis)]
    return [None]


def _dim(value: ir.Value | None, axis: int) -> int | str | None:
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    dim = value.shape[axis]
    return dim if isinstance(dim, int) else dim.value


def parts_of(name: str, sums: Sums) -> dict[str, None]:
    """The names of sizes that decide this one: itself if it is no sum."""
    found: dict[str, None] = {}
    stack, seen = [name], {name}
    while stack:
        top = stack.pop()
        parts = [part for part in sums.get(top, ()) if isinstance(part, str)]
        if top not in sums:
            found[top] = None
        stack += [part for part in parts if part not in seen]
        seen.update(parts)
    return found or {name: None}


def completed(sizes: Mapping[str, int], sums: Sums) -> dict[str, int]:
    """`sizes`, and those that follow: a sum from its parts, or its last part from the others."""
    known = dict(sizes)
    for _ in sums:
        for name, parts in sums.items():
            missing = [part for part in parts if isinstance(part, str) and part not in known]
            there = sum(part if isinstance(part, int) else known.get(part, 0) for part in parts)
            if not missing:
                known.setdefault(name, there)
            elif name in known and len(missing) == 1 and known[name] >= there:
                known[missing[0]] = known[name] - there
    return known
