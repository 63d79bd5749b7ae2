"""One layer of a graph: what its second attention needs and its first does not."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

_ATTENTION = ("GroupQueryAttention", "MultiHeadAttention", "Attention", "Softmax", "Conv")
_HEADS_AXES = 4


def layer_of(graph: ir.Graph) -> dict[str, int]:
    """Counts of the operators between one attention (or softmax of scores, or convolution) and the next."""
    for kind in _ATTENTION:
        found = [n for n in graph if n.op_type == kind and len(n.outputs[0].shape or ()) in (3, _HEADS_AXES)]
        if len(found) > 1:
            between = _needed(found[1]) - _needed(found[0])
            return dict(sorted(Counter(node.op_type for node in between).items()))
    return {}


def _needed(last: ir.Node) -> set[ir.Node]:
    seen, stack = {last}, [last]
    while stack:
        for value in stack.pop().inputs:
            node = value.producer() if value is not None else None
            if node is not None and node not in seen:
                seen.add(node)
                stack.append(node)
    return seen
