"""Which products with quantized weights our kernel serves."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from ._known import FLOAT, UINT8, Known

if TYPE_CHECKING:
    import onnx

__all__ = ["hand_over_matmul_nbits"]

_BITS, _BLOCKS = (2, 4, 8), (32, 64, 128, 256)
_ZEROS, _G_IDX, _BIAS = 3, 4, 5  # places among the inputs of MatMulNBits
_INT = 2  # of onnx.AttributeProto
_DEFAULTS = {"bits": 4, "accuracy_level": 0}


def hand_over_matmul_nbits(node: onnx.NodeProto, known: Known) -> bool:
    """Make `node`, a MatMulNBits, the one that our kernel knows, if it serves it; whether it does.

    It does for 2, 4 or 8 bits in blocks of 32 to 256 in float32, where activations may be rounded
    (accuracy_level 4); weights, scales, packed zero points and bias constants of the sizes that the node
    says.
    """
    if not _is_served(node, known):
        return False
    if all(a.name != "bits" for a in node.attribute):
        node.attribute.add(name="bits", type=_INT, i=_DEFAULTS["bits"])
    if len(node.input) > _G_IDX:
        del node.input[_G_IDX]
    return True


def _is_served(node: onnx.NodeProto, known: Known) -> bool:
    says = _DEFAULTS | {a.name: a.i for a in node.attribute}
    k, n, block = says.get("K", 0), says.get("N", 0), says.get("block_size", 0)
    bits = says["bits"]
    if says["accuracy_level"] != 4 or says.get("weight_prepacked"):
        return False
    if bits not in _BITS or block not in _BLOCKS or k < 1 or n < 1:
        return False
    names = [*node.input, *[""] * (_BIAS + 1 - len(node.input))]
    if len(names) > _BIAS + 1 or names[_G_IDX]:
        return False
    blocks = ceil(k / block)
    return (
        known.is_constant(names[1], UINT8, n * blocks * block * bits // 8)
        and known.is_constant(names[2], FLOAT, n * blocks)
        and (not names[_ZEROS] or known.is_constant(names[_ZEROS], UINT8, n * ceil(blocks * bits / 8)))
        and (not names[_BIAS] or known.is_constant(names[_BIAS], FLOAT, n))
    )
