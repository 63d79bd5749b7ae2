"""Round-to-nearest quantization of weight rows in blocks, in the layout that MatMulNBits reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import Expr
from graphopt.pipeline import Context, map_tiles

__all__ = ["NotFinite", "Packed", "packed_rows", "quantize_rows", "quantized_tiles", "unpacked"]

Floats = NDArray[np.float32]

FACTORS = (1.05, 1.0, 0.95, 0.9, 0.85)
"""Scales that a search tries, relative to the one at which nothing is clipped.

Five are a judgement: each costs one more pass over the weight.
"""

_FINE = 8  # bits at which no other scale is tried: the largest entry decides, and clipping it gains nothing
_CACHED = 1 << 18  # entries at a time: 1 MiB of float32, which stays in a core's cache over all passes
_SMALLEST = np.float32(1e-37)  # below, 1 / scale is beyond float32's 3.4e38


class NotFinite(ValueError):
    """A weight has NaN or infinite entries."""


@dataclass(frozen=True)
class Packed:
    """uint8[rows, blocks, block * bits / 8] and scales float32[rows, blocks]; zero point 2^(bits-1)."""

    weight: NDArray[np.uint8]
    scales: Floats


def quantize_rows(rows: Floats, bits: int, block: int, *, search: bool = True) -> Packed:
    """Quantize float32[rows, K] symmetrically in blocks along K, the last one padded with zeros.

    A block's scale is signed so that its entry of largest magnitude becomes exactly -2^(bits-1), the end
    with one more level (the trick of llama.cpp's Q4_0). With `search`, other scales are tried too; each is
    refitted by least squares to the levels it leads to, and the one with the smallest squared error is kept.
    Raises `NotFinite`.
    """
    count, width = rows.shape
    blocks = -(-width // block)
    if blocks * block != width:
        rows = np.pad(rows, ((0, 0), (0, blocks * block - width)))
    # A column for each block: what is done to every block then runs along contiguous memory.
    columns = np.ascontiguousarray(rows.reshape(count * blocks, block).T)
    levels = 1 << (bits - 1)
    high, low = columns.max(0), columns.min(0)
    scales: Floats = np.where(high > -low, high, low) / np.float32(-levels)
    if not np.isfinite(scales).all():
        raise NotFinite
    columns *= _inverse(scales)
    rounded = np.empty_like(columns)
    if search:
        factors = _best_factors(columns, rounded, levels)
        scales *= factors
        columns *= _inverse(factors)
    _round(columns, rounded, levels)
    rounded += np.float32(levels)
    return Packed(_pack(rounded.astype(np.uint8), bits, count, blocks), scales.reshape(count, blocks))


def _best_factors(columns: Floats, rounded: Floats, levels: int) -> Floats:
    """What to multiply the scale of each column by, the columns being in units of it."""
    best = np.full(columns.shape[1], -1.0, np.float32)
    chosen = np.ones_like(best)
    for factor in FACTORS:
        _round(np.multiply(columns, np.float32(1 / factor), out=rounded), rounded, levels)
        along = np.einsum("ij,ij->j", columns, rounded)
        square = np.einsum("ij,ij->j", rounded, rounded)
        fitted = along / np.maximum(square, _SMALLEST)
        gain = along * fitted  # the squared error is that of rounding all to zero, less this
        better = gain > best
        np.copyto(best, gain, where=better)
        np.copyto(chosen, fitted, where=better)
    return chosen


def _round(values: Floats, out: Floats, levels: int) -> None:
    np.rint(values, out=out)
    np.clip(out, -levels, levels - 1, out=out)


def _inverse(scales: Floats) -> Floats:
    """1 / scale; 0 for a block of zeros, and for one so small that the inverse overflows."""
    return np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=np.abs(scales) > _SMALLEST)


def _pack(values: NDArray[np.uint8], bits: int, count: int, blocks: int) -> NDArray[np.uint8]:
    """uint8[block, columns] of one value each to rows of bytes, the first value in the low bits."""
    per_byte = 8 // bits
    packed = values[0::per_byte].copy()
    for place in range(1, per_byte):
        packed |= values[place::per_byte] << (place * bits)
    return np.ascontiguousarray(packed.T).reshape(count, blocks, -1)


def unpacked(packed: Packed, bits: int, width: int) -> Floats:
    """The float32[rows, width] that `packed` stands for."""
    per_byte = 8 // bits
    values = np.stack([(packed.weight >> (i * bits)) & ((1 << bits) - 1) for i in range(per_byte)], axis=-1)
    values = values.reshape(*packed.scales.shape, -1).astype(np.float32) - (1 << (bits - 1))
    return (values * packed.scales[..., None]).reshape(len(values), -1)[:, :width]


def packed_rows(rows: Expr, bits: int, block: int, context: Context, *, search: bool) -> tuple[Expr, Floats]:
    """`quantize_rows` over all of `rows` [N, K]: uint8[N, blocks, block * bits / 8], float32[N, blocks].

    The packed weight lies where `context` stores it. Raises `NotFinite`.
    """
    scales: list[Floats] = []

    def packed() -> Iterator[NDArray[np.uint8]]:
        for tile in quantized_tiles(rows, bits, block, search=search and bits < _FINE):
            scales.append(tile.scales)
            yield tile.weight

    count, width = rows.shape
    shape = (count, -(-width // block), block * bits // 8)
    weight = context.store(packed(), ir.DataType.UINT8, shape)
    return weight, np.concatenate(scales)


def quantized_tiles(rows: Expr, bits: int, block: int, *, search: bool) -> Iterator[Packed]:
    """`quantize_rows` over an expression float32 [N, K], some rows at a time and in order."""

    def parts(tile: Floats) -> Packed:
        step = max(1, _CACHED // max(1, tile.shape[1]))
        made = [
            quantize_rows(tile[i : i + step], bits, block, search=search) for i in range(0, len(tile), step)
        ]
        return Packed(np.concatenate([p.weight for p in made]), np.concatenate([p.scales for p in made]))

    return map_tiles(rows, parts)
