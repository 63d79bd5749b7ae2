"""Tensors of a GGUF file as lazy expressions: the integers of its blocks and their scales, or floats.

Layouts are those of ggml's block structs (ggml-common.h): the second half of a block's elements in the high
bits of the first half's bytes, one float16 factor a block, and for K-quants integer scales of parts of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import Expr, FileRange, Region, full_region

__all__ = ["KEPT", "GgufFloats", "GgufIntegers", "GgufScales", "Kind"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Array = NDArray[np.generic]


@dataclass(frozen=True)
class Kind:
    """A type of GGUF whose blocks MatMulNBits can hold: its own sizes, and the form that they become.

    `elements` in `size` bytes; `bits` in blocks of `block` in the package. `integers` are uint8 [n, elements]
    with zero point 2^(bits-1), and `scales` float32 [n, elements / block], both from uint8 [n, size].
    """

    elements: int
    size: int
    bits: int
    block: int
    integers: Callable[[Bytes], Bytes]
    scales: Callable[[Bytes], Floats]


def _halves(packed: Bytes) -> Bytes:
    """4-bit integers [n, 2 * bytes]: those in low halves, and then those in high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _half(raw: Bytes) -> Floats:
    """Float16 in the two bytes [n, 2], as float32 [n, 1]."""
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def _q5_0(raw: Bytes) -> Bytes:
    fifth = np.unpackbits(raw[:, 2:6], axis=-1, bitorder="little")
    integers: Bytes = np.add(_halves(raw[:, 6:]) | (fifth << 4), 128 - 16, dtype=np.uint8)
    return integers


def _q3_k(raw: Bytes) -> Bytes:
    low = np.stack([(raw[:, 32:96].reshape(-1, 2, 32) >> shift) & 3 for shift in (0, 2, 4, 6)], axis=2)
    third = np.stack([(raw[:, :32] >> shift) & 1 for shift in range(8)], axis=1)
    integers: Bytes = np.add(low.reshape(-1, 256) | (third.reshape(-1, 256) << 2), 8 - 4, dtype=np.uint8)
    return integers


def _q3_k_scales(raw: Bytes) -> Floats:
    packed = raw[:, 96:108]
    low = _halves(packed[:, :8])
    high = np.concatenate([(packed[:, 8:] >> shift) & 3 for shift in (0, 2, 4, 6)], axis=-1)
    return _half(raw[:, 108:]) * ((low | (high << 4)).astype(np.float32) - 32)


def _q6_k(raw: Bytes) -> Bytes:
    low = np.stack([_halves(raw[:, at : at + 64]) for at in (0, 64)], axis=1)
    high = raw[:, 128:192].reshape(-1, 2, 32)
    top = np.concatenate([(high >> shift) & 3 for shift in (0, 2, 4, 6)], axis=-1)
    integers: Bytes = np.add((low | (top << 4)).reshape(-1, 256), 128 - 32, dtype=np.uint8)
    return integers


KEPT = {
    "Q4_0": Kind(32, 18, 4, 32, lambda raw: _halves(raw[:, 2:]), lambda raw: _half(raw[:, :2])),
    "Q5_0": Kind(32, 22, 8, 32, _q5_0, lambda raw: _half(raw[:, :2])),
    "Q8_0": Kind(32, 34, 8, 32, lambda raw: raw[:, 2:] ^ np.uint8(128), lambda raw: _half(raw[:, :2])),
    "Q3_K": Kind(256, 110, 4, 16, _q3_k, _q3_k_scales),
    "Q6_K": Kind(
        256,
        210,
        8,
        16,
        _q6_k,
        lambda raw: _half(raw[:, 208:]) * raw[:, 192:208].view(np.int8).astype(np.float32),
    ),
}
"""What is kept, by its name in GGUF. Zero points that are floats, as Q4_1 and Q4_K have, no kernel reads."""


@dataclass(frozen=True, eq=False)
class _OfBlocks(Expr):
    """Something of the blocks `raw`, uint8 [N, bytes], of the type `kind`.

    With `heads`, rows are those of so many heads of which the two halves are to be told apart that RoPE
    rotates into each other: the file has them as neighbours.
    """

    raw: FileRange
    kind: str
    heads: int

    def _blocks(self, rows: slice, blocks: slice, size: int) -> Bytes:
        """uint8 [rows, blocks, size]."""
        columns = slice(blocks.start * size, blocks.stop * size)
        if not self.heads:
            found = self.raw.read((rows, columns))
        else:
            each = self.raw.shape[0] // self.heads
            first, last = rows.start // each, -(-rows.stop // each)
            held = self.raw.read((slice(first * each, last * each), columns))
            wanted = np.arange(rows.start, rows.stop)
            head, place = wanted // each, wanted % each
            half, pair = place // (each // 2), place % (each // 2)
            found = held[head * each + 2 * pair + half - first * each]
        return np.ascontiguousarray(found).reshape(len(found), -1, size)


@dataclass(frozen=True, eq=False)
class GgufIntegers(_OfBlocks):
    """uint8 [N, blocks, block * bits / 8], as MatMulNBits packs what a GGUF file has in another order."""

    op: ClassVar[str] = "gguf integers"

    def __post_init__(self) -> None:
        kind = KEPT[self.kind]
        width = self.raw.shape[1] // kind.size * kind.elements
        self.describe(
            (self.raw.shape[0], width // kind.block, kind.block * kind.bits // 8), ir.DataType.UINT8
        )

    def read(self, region: Region | None = None) -> Array:
        rows, blocks, columns = full_region(self.shape) if region is None else region
        kind = KEPT[self.kind]
        each = kind.elements // kind.block
        held = slice(blocks.start // each, -(-blocks.stop // each))
        raw = self._blocks(rows, held, kind.size)
        values = kind.integers(raw.reshape(-1, kind.size))
        if kind.bits == 4:
            values = np.bitwise_or(values[:, 0::2], values[:, 1::2] << 4, dtype=np.uint8)
        values = values.reshape(len(raw), (held.stop - held.start) * each, self.shape[2])
        start = held.start * each
        return values[:, blocks.start - start : blocks.stop - start, columns]


@dataclass(frozen=True, eq=False)
class GgufScales(_OfBlocks):
    """float32 [N, blocks]: the scales of `GgufIntegers`."""

    op: ClassVar[str] = "gguf scales"

    def __post_init__(self) -> None:
        kind = KEPT[self.kind]
        self.describe(
            (self.raw.shape[0], self.raw.shape[1] // kind.size * kind.elements // kind.block),
            ir.DataType.FLOAT,
        )

    def read(self, region: Region | None = None) -> Array:
        rows, blocks = full_region(self.shape) if region is None else region
        kind = KEPT[self.kind]
        each = kind.elements // kind.block
        held = slice(blocks.start // each, -(-blocks.stop // each))
        raw = self._blocks(rows, held, kind.size)
        scales = kind.scales(raw.reshape(-1, kind.size)).reshape(len(raw), -1)
        start = held.start * each
        return scales[:, blocks.start - start : blocks.stop - start]


@dataclass(frozen=True, eq=False)
class GgufFloats(_OfBlocks):
    """float32 [N, width] of blocks that are not kept, as the package `gguf` reads them."""

    op: ClassVar[str] = "gguf floats"
    width: int

    def __post_init__(self) -> None:
        self.describe((self.raw.shape[0], self.width), ir.DataType.FLOAT)

    def read(self, region: Region | None = None) -> Array:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
        from gguf.quants import dequantize

        rows, columns = full_region(self.shape) if region is None else region
        kind = GGMLQuantizationType[self.kind]
        elements, size = GGML_QUANT_SIZES[kind]
        held = slice(columns.start // elements, -(-columns.stop // elements))
        raw = self._blocks(rows, held, size)
        values = dequantize(raw.reshape(len(raw), -1), kind).astype(np.float32, copy=False)
        start = held.start * elements
        return values[:, columns.start - start : columns.stop - start]
