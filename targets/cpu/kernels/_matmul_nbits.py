"""Which products with quantized weights our kernel serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._known import FLOAT, UINT8, Known

if TYPE_CHECKING:
    import onnx

__all__ = ["hand_over_matmul_nbits"]

_BLOCKS = {4: (32, 64, 128, 256), 8: (128, 256)}
_CHUNK = 128  # elements whose 4-bit weights fill a vector (CHUNK in matmul_nbits.c)
_BIAS = 5  # where MatMulNBits takes it, after zero points and g_idx
_INT = 2  # of onnx.AttributeProto
_DEFAULTS = {"bits": 4, "accuracy_level": 0}


def hand_over_matmul_nbits(node: onnx.NodeProto, known: Known) -> bool:
    """Make `node`, a MatMulNBits, the one that our kernel knows, if it serves it; whether it does.

    It does for 4 or 8 bits in float32, without zero points, where activations may be rounded to int8
    (accuracy_level 4), with K a multiple of 128 and of the block; weights, scales and bias constants of the
    sizes that the node says.
    """
    if not _is_served(node, known):
        return False
    if all(a.name != "bits" for a in node.attribute):
        node.attribute.add(name="bits", type=_INT, i=_DEFAULTS["bits"])
    kept = [*node.input[:3], *node.input[_BIAS:]]
    del node.input[:]
    node.input.extend(kept)
    return True


def _is_served(node: onnx.NodeProto, known: Known) -> bool:
    says = _DEFAULTS | {a.name: a.i for a in node.attribute}
    k, n, block = says.get("K", 0), says.get("N", 0), says.get("block_size", 0)
    bits = says["bits"]
    if says["accuracy_level"] != 4 or says.get("weight_prepacked"):
        return False
    if block not in _BLOCKS.get(bits, ()) or k < 1 or n < 1 or k % max(block, _CHUNK):
        return False
    names = [*node.input, *[""] * (_BIAS + 1 - len(node.input))]
    if len(names) > _BIAS + 1 or any(names[3:_BIAS]):
        return False
    return (
        known.is_constant(names[1], UINT8, k * bits // 8 * n)
        and known.is_constant(names[2], FLOAT, k // block * n)
        and (not names[_BIAS] or known.is_constant(names[_BIAS], FLOAT, n))
    )
