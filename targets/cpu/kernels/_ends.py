"""Where floats become pictures of integers, and these floats again, and our kernels serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._known import FLOAT, Known
from ._uses import Uses
from ._window import become_ours, describe, says

if TYPE_CHECKING:
    import onnx

__all__ = ["hand_over_blocks", "hand_over_planes"]

_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
"""Where channels go."""


def hand_over_blocks(graph: onnx.GraphProto) -> None:
    """Hand what convolutions of floats give convolutions of integers to our kernel, in place.

    onnxruntime takes it out of its blocks of channels (ReorderOutput), rounds it and moves the channels to
    the last place, in three passes. Results are the same.
    """
    known, uses = Known.of(graph), Uses.of(graph)
    for node in list(graph.node):
        if (node.op_type, node.domain) != ("ReorderOutput", "com.microsoft.nchwc"):
            continue
        said = says(node)
        rounded = uses.user(node.output[0], "QuantizeLinear", 3)
        moved = uses.user(rounded.output[0], "Transpose", 1) if rounded is not None else None
        if rounded is None or moved is None or says(moved).get("perm") != _LAST or said.get("channels_last"):
            continue
        if not known.is_scale(rounded.input[1:]):
            continue
        moved.input[:] = [node.input[0], *rounded.input[1:]]
        become_ours(moved, "QuantizeBlocks", {"channels": said["channels"]})
        describe(moved, graph)
        for one in (node, rounded):
            graph.node.remove(one)


def hand_over_planes(graph: onnx.GraphProto) -> None:
    """Hand pictures of integers that become floats, and their channels the first, to our kernel, in place."""
    known, uses = Known.of(graph), Uses.of(graph)
    for node in list(graph.node):
        widened = uses.user(node.output[0], "DequantizeLinear", 3) if node.op_type == "Transpose" else None
        if widened is not None and says(node).get("perm") == _FIRST and known.is_scale(widened.input[1:]):
            widened.input[0] = node.input[0]
            become_ours(widened, "DequantizePlanes", {})
            describe(widened, graph, FLOAT)
            graph.node.remove(node)
