"""Weights as compressed-tensors stores them: packed integers, plain int8, and pairs of 4-bit floats.

pack-quantized: int32 weight_packed [N, ceil(K * bits / 32)], the first integer of a word in its lowest bits,
each more by 2^(bits-1) than it is; weight_scale [N, groups]; weight_zero_point packed likewise, but along N.
int-quantized and naive-quantized: int8 weight [N, K]. nvfp4-pack-quantized: uint8 weight_packed [N, K / 2];
weight_scale [N, K / 16] in 8-bit floats, to be divided by weight_global_scale (compressed-tensors 0.20.1).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.importers._expressions import Divided, Integers
from graphopt.importers._gptq import order_of
from graphopt.importers._layout import KEPT_BITS, as_bytes, in_blocks, in_order
from graphopt.importers._stored import Mismatch, Parts, Said, Unkept
from graphopt.ir import Cast, Expr, FileRange, Reshaped, Sliced, Transposed

__all__ = ["COMPRESSED_PARTS", "float4_weight", "int8_weight", "packed_weight"]

COMPRESSED_PARTS = frozenset(
    {
        "weight_packed",
        "weight_scale",
        "weight_zero_point",
        "weight_shape",
        "weight_g_idx",
        "weight_global_scale",
        "input_scale",
        "input_zero_point",
        "input_global_scale",
    }
)
_FLOAT4 = (0, 1, 2, 3, 4, 6, 8, 12)
"""Twice the 4-bit floats without their sign, the eighth bit of a nibble."""
_FLOAT4_GROUP = 16


def packed_weight(parts: Parts, said: Said, *, symmetric: bool) -> Expr:
    """The weight float32 [N, K] of a layer that is `pack-quantized`."""
    packed, scale, shape = said.needed(parts, "weight_packed", "weight_scale", "weight_shape")
    bits = said.bits
    if bits not in KEPT_BITS:
        raise Unkept(
            f"it is of {bits} bits, which no kernel has, and of which compressed-tensors changed the packing "
            "in 0.18 without a word in the file"
        )
    count, width = (int(size) for size in shape.read().reshape(-1))
    said.require("weight_packed", packed, (count, -(-width * bits // 32)), ir.DataType.INT32)
    group, scales = _scales(scale, said, count, width)
    order = None
    if "weight_g_idx" in parts and (index := parts["weight_g_idx"].read()).min(initial=0) >= 0:
        said.require("weight_g_idx", parts["weight_g_idx"], (width,))
        order = order_of(index, scales.shape[1], group)
    rows = as_bytes(packed)
    return in_blocks(
        rows if order is None else in_order(rows, bits, order),
        scales,
        None if symmetric else _zeros(parts, said, count, scales.shape[1]),
        bits=bits,
        group=group,
        width=width,
        order=order,
    )


def _scales(scale: FileRange, said: Said, count: int, width: int) -> tuple[int, Expr]:
    """The size of a group, and scales [N, groups]."""
    group = said.group_of(width)
    groups = -(-width // group)
    if scale.shape == (count,):
        return group, Reshaped(scale, (count, 1))
    said.require("weight_scale", scale, (count, groups))
    return group, scale


def _zeros(parts: Parts, said: Said, count: int, groups: int) -> Expr:
    """uint8 [N, groups]; before 0.9 they were not packed."""
    (stored,) = said.needed(parts, "weight_zero_point")
    bits = said.bits
    if stored.dtype == ir.DataType.INT8:
        said.require("weight_zero_point", stored, (count, groups))
        return _unsigned(stored, bits)
    words = -(-count * bits // 32)
    said.require("weight_zero_point", stored, (words, groups), ir.DataType.INT32)
    turned = Transposed(Reshaped(as_bytes(stored), (words, groups, 4)), (1, 0, 2))
    integers = Integers(Reshaped(turned, (groups, words * 4)), bits)
    return Transposed(Sliced(integers, 1, 0, count), (1, 0))


def _unsigned(stored: FileRange, bits: int) -> Expr:
    """int8 as uint8, more by 2^(bits-1)."""
    return Integers(as_bytes(stored), 8, table=tuple((i + (1 << (bits - 1))) % 256 for i in range(256)))


def int8_weight(parts: Parts, said: Said, *, symmetric: bool) -> Expr:
    """The weight float32 [N, K] of a layer whose integers of up to 8 bits are stored in 8."""
    weight, scale = said.needed(parts, "weight", "weight_scale")
    if len(weight.shape) != 2 or weight.dtype != ir.DataType.INT8:
        raise Mismatch(f"its weight is {weight.dtype.name.lower()} {list(weight.shape)}")
    count, width = weight.shape
    group, scales = _scales(scale, said, count, width)
    zeros = None
    if not symmetric:
        (stored,) = said.needed(parts, "weight_zero_point")
        zeros = Reshaped(_unsigned(stored, 8), scales.shape)
    return in_blocks(_unsigned(weight, 8), scales, zeros, bits=8, group=group, width=width)


def float4_weight(parts: Parts, said: Said) -> Expr:
    """The weight float32 [N, K] of a layer in `nvfp4-pack-quantized`: twice each float is an integer."""
    packed, scale, whole = said.needed(parts, "weight_packed", "weight_scale", "weight_global_scale")
    if len(packed.shape) != 2 or packed.dtype != ir.DataType.UINT8 or said.group_size != _FLOAT4_GROUP:
        raise Mismatch(f"its weight_packed is {packed.dtype.name.lower()} {list(packed.shape)}")
    count, width = packed.shape[0], packed.shape[1] * 2
    said.require("weight_scale", scale, (count, width // _FLOAT4_GROUP), ir.DataType.FLOAT8E4M3FN)
    said.require("weight_global_scale", whole, (1,))
    table = tuple(128 + sign * value for sign in (1, -1) for value in _FLOAT4)
    by = 2 * float(whole.read().astype(np.float32)[0])
    return in_blocks(
        Integers(packed, 4, table=table),
        Divided(Cast(scale, ir.DataType.FLOAT), by),
        None,
        bits=8,
        group=_FLOAT4_GROUP,
        width=width,
    )
