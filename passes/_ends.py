"""Where it shows what a node does: the outputs of a graph, and what things are chosen by before these."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir import producer, subgraphs_of, used_values

__all__ = ["ends_of"]

_CHOOSING = {"ArgMax", "ArgMin", "Compress", "NonMaxSuppression", "NonZero", "TopK", "Unique"}
_OF_SIZES = {"Shape", "Size"}
_MOVING = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def ends_of(node: ir.Node, graph: ir.Graph) -> list[ir.Value]:
    """Floats that follow from those of `node` by arithmetic alone, and are outputs or what others choose by.

    Behind a choice (the largest of some, boxes that are left after non-maximum suppression, an integer, a
    comparison) results do not lie side by side any more, so that nothing is said of them. What joins boxes to
    scores, say, at an output counts by its parts: the largest numbers would drown the others.
    """
    follows, chosen = set(node.outputs), set[ir.Value]()
    found: dict[ir.Value, None] = {}
    for other in graph:
        used = set(used_values(other))
        if other is node or other.op_type in _OF_SIZES or used.isdisjoint(follows | chosen):
            continue
        if used.isdisjoint(chosen) and not _chooses(other):
            follows.update(other.outputs)
            continue
        chosen.update(other.outputs)
        found |= dict.fromkeys(value for value in used_values(other) if value in follows)
    found |= dict.fromkeys(value for value in graph.outputs if value in follows)
    return list(dict.fromkeys(part for value in found for part in _parts(value) if part in follows))


def _chooses(node: ir.Node) -> bool:
    if node.op_type in _CHOOSING or any(subgraphs_of(node)):
        return True
    return any(value.uses() and value.dtype is not None and _is_whole(value.dtype) for value in node.outputs)


def _is_whole(dtype: ir.DataType) -> bool:
    return dtype.is_integer() or dtype == ir.DataType.BOOL


def _parts(value: ir.Value) -> list[ir.Value]:
    """What is joined to `value`; itself where nothing is."""
    source = value
    while (move := source.producer()) is not None and move.op_type in _MOVING and move.inputs[0] is not None:
        source = move.inputs[0]
    joining = producer(source, "Concat")
    return [value] if joining is None else [part for part in joining.inputs if part is not None]
