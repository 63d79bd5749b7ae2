"""Rounding weight rows to nearest in blocks, in the layout that MatMulNBits reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import Expr
from graphopt.pipeline import Context, map_tiles

from ._forms import Form
from ._nearest import round_to_nearest

__all__ = [
    "NotFinite",
    "Packed",
    "concatenated",
    "kept",
    "levels_of",
    "pack_levels",
    "pack_zeros",
    "quantize_rows",
    "quantized_tiles",
    "unpacked",
    "zero_points_of",
]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

FACTORS = {
    2: (1.05, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5),
    4: (1.05, 1.0, 0.95, 0.9, 0.85),
    8: (1.0, 0.99, 1.01),
}
"""Scales that a search tries by bits, relative to the one at which nothing is clipped.

How many is a judgement: each costs one more pass over the weight. 8 bits gain a tenth of a dB.
"""

_CACHED = 1 << 18  # entries at a time: 1 MiB of float32, which stays in a core's cache over all passes
_NONE = np.zeros(0, np.float32)
_SMALLEST = np.float32(1e-37)  # below, 1 / scale is beyond float32's 3.4e38


class NotFinite(ValueError):
    """A weight has NaN or infinite entries."""


@dataclass(frozen=True)
class Packed:
    """uint8[rows, blocks, block * bits / 8] and scales float32[rows, blocks].

    `zeros` are a zero point for each block, uint8[rows, ceil(blocks * bits / 8)], packed as the weight is;
    without, every block's is 2^(bits-1).
    """

    weight: Bytes
    scales: Floats
    zeros: Bytes | None = None


def quantize_rows(
    rows: Floats,
    bits: int,
    block: int,
    *,
    search: bool = True,
    zeros: bool = False,
    importance: Floats | None = None,
) -> Packed:
    """Quantize float32[rows, K] in blocks along K, the last one padded with zeros.

    A block's scale is signed so that its entry of largest magnitude becomes exactly -2^(bits-1), the end
    with one more level (the trick of llama.cpp's Q4_0). With `search`, other scales are tried too; each is
    refitted by least squares to the levels it leads to, and the one with the smallest squared error is kept,
    each column's counted `importance` [K] times. With `zeros`, other zero points are tried, too.
    Raises `NotFinite`.
    """
    if not zeros and importance is None:
        made = round_to_nearest(rows, bits, block, _inverse_factors(bits) if search else _NONE)
        if made is not None:
            weight, found, finite = made
            if not finite:
                raise NotFinite
            return Packed(weight, found)
    return _quantized(rows, bits, block, search, zeros, importance)


def _quantized(
    rows: Floats, bits: int, block: int, search: bool, zeros: bool, importance: Floats | None
) -> Packed:
    """`quantize_rows` in numpy: the definition."""
    count, width = rows.shape
    blocks = -(-width // block)
    missing = blocks * block - width
    if missing:
        rows = np.pad(rows, ((0, 0), (0, missing)))
    # A column for each block: what is done to every block then runs along contiguous memory.
    columns = rows.reshape(count * blocks, block).T.copy(order="C")
    weights = None
    if importance is not None:
        weights = np.tile(np.pad(importance, (0, missing)).reshape(blocks, block).T, (1, count))
    levels = 1 << (bits - 1)
    high, low = columns.max(0), columns.min(0)
    scales: Floats = np.where(high > -low, high, low) / np.float32(-levels)
    if not np.isfinite(scales).all():
        raise NotFinite
    if zeros:
        fit = _Fit(columns, weights, 2 * levels - 1)
        fit.search(FACTORS[bits] if search else (1.0,), scales, low, high)
        shape = (count, blocks)
        return pack_levels(fit.rounded(), fit.scale.reshape(shape), bits, fit.zero.reshape(shape))
    columns *= _inverse(scales)
    rounded = np.empty_like(columns)
    if search:
        factors = _best_factors(columns, rounded, bits, weights)
        scales *= factors
        columns *= _inverse(factors)
    _round(columns, rounded, levels)
    rounded += np.float32(levels)
    scales += np.float32(
        0
    )  # no zero is negative: of zeros of both signs, numpy does not say which is largest
    return pack_levels(rounded.astype(np.uint8), scales.reshape(count, blocks), bits)


def _inverse_factors(bits: int) -> Floats:
    return np.array([1 / factor for factor in FACTORS[bits]], np.float32)


def _best_factors(columns: Floats, rounded: Floats, bits: int, weights: Floats | None) -> Floats:
    """What to multiply the scale of each column by, the columns being in units of it."""
    best = np.full(columns.shape[1], -1.0, np.float32)
    chosen = np.ones_like(best)
    for factor in FACTORS[bits]:
        _round(np.multiply(columns, np.float32(1 / factor), out=rounded), rounded, 1 << (bits - 1))
        gain, fitted = _gain(columns, rounded, weights)
        better = gain > best
        np.copyto(best, gain, where=better)
        np.copyto(chosen, fitted, where=better)
    return chosen


def _gain(columns: Floats, rounded: Floats, weights: Floats | None) -> tuple[Floats, Floats]:
    """By how much levels `rounded` lower the squared error from that of zeros, and the scale at which."""
    weighted = rounded if weights is None else rounded * weights
    along = _summed(columns, weighted)
    norm: Floats = np.maximum(_summed(rounded, weighted), _SMALLEST)
    fitted: Floats = np.divide(along, norm)
    return np.multiply(along, fitted), fitted


def _summed(a: Floats, b: Floats) -> Floats:
    """The sums of a * b over the first axis, in its order: einsum takes that of a single column otherwise."""
    total: Floats
    if a.shape[1] > 1:
        total = np.einsum("ij,ij->j", a, b)
        return total
    total = np.zeros(a.shape[1], np.float32)
    for product in a * b:
        total += product
    return total


class _Fit:
    """The best scale and zero point met for each of `columns` [block, n], with levels 0 to `top`."""

    def __init__(self, columns: Floats, weights: Floats | None, top: int) -> None:
        self._columns, self._weights, self._top = columns, weights, top
        self._best = np.full(columns.shape[1], -1.0, np.float32)
        self.scale = np.zeros_like(self._best)
        self.zero = np.full(columns.shape[1], (top + 1) // 2, np.uint8)

    def search(self, factors: tuple[float, ...], scales: Floats, low: Floats, high: Floats) -> None:
        """Try signed `scales` with the middle as zero point, and those that span from `low` to `high`."""
        middle = np.full(1, (self._top + 1) // 2, np.float32)
        for factor in factors:
            self._try(scales * np.float32(factor), middle)
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        span = (high - low) / np.float32(self._top)
        zero = np.rint(-low * _inverse(span))
        for factor in factors:
            for away in (-1, 0, 1) if len(factors) > 1 else (0,):
                self._try(span * np.float32(factor), np.clip(zero + np.float32(away), 0, self._top))

    def _try(self, scale: Floats, zero: Floats) -> None:
        gain, fitted = _gain(self._columns, self._steps(scale, zero), self._weights)
        better = gain > self._best
        np.copyto(self._best, gain, where=better)
        np.copyto(self.scale, fitted, where=better)
        np.copyto(self.zero, zero.astype(np.uint8), where=better)

    def _steps(self, scale: Floats, zero: Floats) -> Floats:
        steps = self._columns * _inverse(scale)
        np.rint(steps, out=steps)
        return np.clip(steps, -zero, self._top - zero, out=steps)

    def rounded(self) -> Bytes:
        """The levels [block, n] at what was found."""
        zero = self.zero.astype(np.float32)
        return (self._steps(self.scale, zero) + zero).astype(np.uint8)


def _round(values: Floats, out: Floats, levels: int) -> None:
    np.rint(values, out=out)
    np.clip(out, -levels, levels - 1, out=out)


def _inverse(scales: Floats) -> Floats:
    """1 / scale; 0 for a block of zeros, and for one so small that the inverse overflows."""
    return np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=np.abs(scales) > _SMALLEST)


def pack_levels(levels: Bytes, scales: Floats, bits: int, zeros: Bytes | None = None) -> Packed:
    """`levels` uint8[block, rows * blocks], one byte each, beside scales and zero points [rows, blocks]."""
    weight = np.ascontiguousarray(_in_bytes(levels, bits).T).reshape(*scales.shape, -1)
    if zeros is None:
        return Packed(weight, scales)
    return Packed(weight, scales, pack_zeros(zeros, bits))


def pack_zeros(zeros: Bytes, bits: int) -> Bytes:
    """Zero points uint8[rows, blocks], one byte each, as `Packed.zeros` holds them."""
    missing = -zeros.shape[1] % (8 // bits)
    return _in_bytes(np.pad(zeros, ((0, 0), (0, missing))).T, bits).T.copy()


def _in_bytes(values: Bytes, bits: int) -> Bytes:
    """Values along the first axis, 8 / bits to a byte, the first one in the low bits."""
    per_byte = 8 // bits
    packed = values[0::per_byte].copy()
    for place in range(1, per_byte):
        packed |= values[place::per_byte] << (place * bits)
    return packed


def _of_bytes(packed: Bytes, bits: int) -> Bytes:
    """What the bytes along the last axis hold, one value a byte."""
    values = np.stack([(packed >> place) & ((1 << bits) - 1) for place in range(0, 8, bits)], axis=-1)
    return values.reshape(*packed.shape[:-1], -1)


def levels_of(packed: Packed, bits: int) -> Bytes:
    """uint8[rows, blocks, block]: the levels, 0 to 2^bits - 1."""
    return _of_bytes(packed.weight, bits)


def zero_points_of(packed: Packed, bits: int) -> Bytes:
    """uint8[rows, blocks]: the level that stands for zero."""
    if packed.zeros is None:
        return np.full(packed.scales.shape, 1 << (bits - 1), np.uint8)
    return _of_bytes(packed.zeros, bits)[:, : packed.scales.shape[1]]


def unpacked(packed: Packed, bits: int, width: int) -> Floats:
    """The float32[rows, width] that `packed` stands for."""
    steps = levels_of(packed, bits).astype(np.float32) - zero_points_of(packed, bits)[..., None]
    return (steps * packed.scales[..., None]).reshape(len(steps), -1)[:, :width]


def concatenated(parts: list[Packed]) -> Packed:
    """The rows of all `parts`."""
    zeros = [part.zeros for part in parts if part.zeros is not None]
    return Packed(
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate(zeros) if zeros else None,
    )


def quantized_tiles(rows: Expr, form: Form, **options: Any) -> Iterator[Packed]:
    """`quantize_rows` over an expression float32 [N, K], some rows at a time and in order."""

    def parts(tile: Floats) -> Packed:
        step = max(1, _CACHED // max(1, tile.shape[1]))
        pieces = [tile[i : i + step] for i in range(0, len(tile), step)]
        return concatenated(
            [quantize_rows(p, form.bits, form.block, zeros=form.zeros, **options) for p in pieces]
        )

    return map_tiles(rows, parts)


def kept(
    parts: Iterable[Packed], form: Form, shape: tuple[int, int], context: Context
) -> tuple[Expr, Floats, Bytes | None]:
    """Weight, scales and zero points of all the rows [N, K] whose `parts` come in order.

    The weight, uint8[N, blocks, bytes], lies where `context` stores it.
    """
    rest: list[Packed] = []

    def weights() -> Iterator[Bytes]:
        for part in parts:
            rest.append(replace(part, weight=part.weight[:0]))
            yield part.weight

    count, width = shape
    size = form.block * form.bits // 8
    weight = context.store(weights(), ir.DataType.UINT8, (count, -(-width // form.block), size))
    whole = concatenated(rest)
    return weight, whole.scales, whole.zeros
