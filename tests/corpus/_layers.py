"""One layer of a graph: what its second attention needs and its first does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import onnx_ir as ir

_ATTENTION = ("GroupQueryAttention", "MultiHeadAttention", "Attention", "LinearAttention")
_ATTENTION += ("CausalConvWithState", "Softmax", "Conv")
_HEADS_AXES = 4


def layer_of(graph: ir.Graph) -> dict[str, int]:
    """Counts of the operators between one attention (or softmax of scores, or convolution) and the next.

    Attention to another sequence, whose keys are an input of the graph, is within a layer. A graph with one
    layer of each kind, as hybrids have them, counts as a whole.
    """
    for kind in _ATTENTION:
        found = [n for n in graph if n.op_type == kind and len(n.outputs[0].shape or ()) in (3, _HEADS_AXES)]
        found = [n for n in found if not any(v is not None and v.is_graph_input() for v in n.inputs[1:2])]
        if len(found) > 1:
            between = _needed(found[1]) - _needed(found[0])
            return _counts(between)
    return _counts(graph)


def _counts(nodes: Iterable[ir.Node]) -> dict[str, int]:
    return dict(sorted(Counter(node.op_type for node in nodes).items()))


def _needed(last: ir.Node) -> set[ir.Node]:
    seen, stack = {last}, [last]
    while stack:
        for value in stack.pop().inputs:
            node = value.producer() if value is not None else None
            if node is not None and node not in seen:
                seen.add(node)
                stack.append(node)
    return seen
