"""Which maxima of places our kernel serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._window import become_ours, describe, says, window

if TYPE_CHECKING:
    import onnx

__all__ = ["hand_over_max_pools"]


def hand_over_max_pools(graph: onnx.GraphProto) -> None:
    """Hand each NhwcMaxPool of pictures to our kernel, in place; onnxruntime's runs on one thread."""
    for node in graph.node:
        if (node.op_type, node.domain) == ("NhwcMaxPool", "com.microsoft") and _is_served(node):
            said = says(node)
            become_ours(node, "MaxPool", window(said, said["kernel_shape"]))
            describe(node, graph)


def _is_served(node: onnx.NodeProto) -> bool:
    said = says(node)
    pads = said.get("auto_pad", b"NOTSET")
    return len(said["kernel_shape"]) == 2 and pads == b"NOTSET" and not said.get("ceil_mode")
