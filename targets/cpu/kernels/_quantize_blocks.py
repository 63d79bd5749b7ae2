"""Which floats in blocks of channels our kernel rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._known import Known
from ._uses import Uses
from ._window import become_ours, describe, says

if TYPE_CHECKING:
    import onnx

__all__ = ["hand_over_blocks"]

_LAST = [0, 2, 3, 1]


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
