"""Round-to-nearest quantization of weight rows in blocks, in the layout that MatMulNBits reads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from graphopt.ir import Expr, simplified
from graphopt.runtime import default_threads

__all__ = ["Packed", "quantize_rows", "quantized_tiles", "unpacked"]

Floats = NDArray[np.float32]
_READ = 8 << 20
_CACHE = 1 << 17
_AHEAD = 8
SEARCHED = (1.0, 0.95, 0.9, 0.85)
"""Shrunken scales that are tried: they clip the largest entry of a block to place the others better."""


@dataclass(frozen=True)
class Packed:
    """uint8[rows, blocks, block * bits / 8] and scales float32[rows, blocks]; zero point 2^(bits-1)."""

    weight: NDArray[np.uint8]
    scales: Floats


def quantize_rows(rows: Floats, bits: int, block: int, *, search: bool = True) -> Packed:
    """Quantize float32[rows, K] symmetrically in blocks along K, the last one padded with zeros.

    A block's scale is signed so that its entry of largest magnitude becomes exactly -2^(bits-1), the end
    with one more level (the trick of llama.cpp's Q4_0). With `search`, shrunken scales are tried too; each
    candidate's scale is refitted by least squares, and the one with the smallest squared error is kept.
    """
    count, width = rows.shape
    blocks = -(-width // block)
    if blocks * block != width:
        rows = np.pad(rows, ((0, 0), (0, blocks * block - width)))
    columns = np.ascontiguousarray(rows.reshape(count * blocks, block).T)
    levels = 1 << (bits - 1)
    scale = _scales(columns, levels, SEARCHED if search else (1.0,))
    levelled = _rounded(columns, scale, levels)
    levelled += levels
    return Packed(_pack(levelled.astype(np.uint8), bits, count, blocks), scale.reshape(count, blocks))


def _scales(columns: Floats, levels: int, factors: tuple[float, ...]) -> Floats:
    """A scale for each column of float32[block, columns]."""
    high, low = columns.max(0), columns.min(0)
    extreme: Floats = np.where(high > -low, high, low) / np.float32(-levels)
    if factors == (1.0,):
        return extreme
    best = np.full(columns.shape[1], -1.0, np.float32)
    chosen = extreme.copy()
    product = np.empty_like(columns)
    for factor in factors:
        levelled = _rounded(columns, extreme * np.float32(factor), levels)
        along = np.multiply(columns, levelled, out=product).sum(0)
        square = np.multiply(levelled, levelled, out=product).sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = (
                along * along / square
            )  # squared error is sum(w^2) less this, at the best scale along / square
            fitted = along / square
        better = gain > best
        best, chosen = np.where(better, gain, best), np.where(better, fitted, chosen)
    result: Floats = chosen
    return result


def _rounded(columns: Floats, scale: Floats, levels: int) -> Floats:
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    levelled = columns * inverse
    np.rint(levelled, out=levelled)
    np.clip(levelled, -levels, levels - 1, out=levelled)
    return levelled


def _pack(values: NDArray[np.uint8], bits: int, count: int, blocks: int) -> NDArray[np.uint8]:
    """uint8[block, columns] of one value each to rows of bytes, the first value in the low bits."""
    per_byte = 8 // bits
    packed = values[0::per_byte].copy()
    for place in range(1, per_byte):
        packed |= values[place::per_byte] << (place * bits)
    return np.ascontiguousarray(packed.T).reshape(count, blocks, -1)


def quantized_tiles(rows: Expr, bits: int, block: int, *, search: bool) -> Iterator[Packed]:
    """`quantize_rows` over an expression [N, K], a few rows at a time and in order, on the machine's threads.

    Reading and arithmetic overlap; at most a few tiles are held.
    """
    expr = simplified(rows)
    count, width = expr.shape
    step = max(1, _READ // (4 * width))

    def tile(start: int) -> Packed:
        read = expr.read((slice(start, min(start + step, count)), slice(0, width))).astype(
            np.float32, copy=False
        )
        small = max(1, _CACHE // width)
        parts = [
            quantize_rows(read[i : i + small], bits, block, search=search) for i in range(0, len(read), small)
        ]
        return Packed(np.concatenate([p.weight for p in parts]), np.concatenate([p.scales for p in parts]))

    starts = iter(range(0, count, step))
    with ThreadPoolExecutor(default_threads()) as pool:
        waiting = [pool.submit(tile, s) for s in islice(starts, _AHEAD)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(tile, s) for s in islice(starts, 1)]


def unpacked(packed: Packed, bits: int, width: int) -> Floats:
    """The float32[rows, width] that `packed` stands for."""
    per_byte = 8 // bits
    values = np.stack([(packed.weight >> (i * bits)) & ((1 << bits) - 1) for i in range(per_byte)], axis=-1)
    values = values.reshape(*packed.scales.shape, -1).astype(np.float32) - (1 << (bits - 1))
    return (values * packed.scales[..., None]).reshape(len(values), -1)[:, :width]
