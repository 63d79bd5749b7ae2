"""Two products that are gated, as one node: silu of the one times the other."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ._known import OWN_DOMAIN

if TYPE_CHECKING:
    import onnx

__all__ = ["join_gates"]

_PRODUCT, _JOINED = "MatMulNBits", "GatedMatMulNBits"
_BIAS = 4  # among the inputs of a product, after x, weights, scales and zero points


def join_gates(graph: onnx.GraphProto) -> None:
    """Replace Mul(QuickGelu(gate), up) of two products that our kernel serves by one node, in place.

    They are of the same rows, sizes, bits and blocks, both with zero points or neither, without bias, and
    nothing else uses what lies between.
    """
    made = {name: node for node in graph.node for name in node.output}
    used = Counter(name for node in graph.node for name in node.input)
    used.update(value.name for value in graph.output)
    gone: set[str] = set()
    for node in graph.node:
        if node.op_type != "Mul" or node.domain or len(node.input) != 2:
            continue
        for first, second in (node.input, reversed(node.input)):
            silu, up = made.get(first), made.get(second)
            gate = made.get(silu.input[0]) if silu is not None and _is_silu(silu) else None
            if gate is None or up is None or gate is up or not (_is_plain(gate) and _is_plain(up)):
                continue
            if gate.input[0] != up.input[0] or _says(gate) != _says(up):
                continue
            if bool(_zeros(gate)) != bool(_zeros(up)):
                continue
            if any(used[name] != 1 for name in (gate.output[0], first, second)):
                continue
            _join(node, gate, up)
            gone.update((gate.output[0], first, second))
            break
    for node in [node for node in graph.node if gone.intersection(node.output)]:
        graph.node.remove(node)


def _is_silu(node: onnx.NodeProto) -> bool:
    """QuickGelu(x) is x * sigmoid(alpha * x), alpha being 1.702 if it is not said."""
    says_one = any(a.name == "alpha" and a.f == 1 for a in node.attribute)
    return node.op_type == "QuickGelu" and len(node.input) == 1 and says_one


def _is_plain(node: onnx.NodeProto) -> bool:
    is_product = node.op_type == _PRODUCT and node.domain == OWN_DOMAIN
    return is_product and not any(node.input[_BIAS:])


def _zeros(node: onnx.NodeProto) -> list[str]:
    """The name of its zero points, if it has some."""
    return [name for name in node.input[3:_BIAS] if name]


def _says(node: onnx.NodeProto) -> dict[str, int]:
    return {a.name: a.i for a in node.attribute}


def _join(node: onnx.NodeProto, gate: onnx.NodeProto, up: onnx.NodeProto) -> None:
    node.name, node.op_type, node.domain = gate.name, _JOINED, OWN_DOMAIN
    del node.input[:], node.attribute[:]
    node.input.extend([*gate.input[:3], *up.input[1:3], *_zeros(gate), *_zeros(up)])
    node.attribute.extend(gate.attribute)
