"""Matrices that come in blocks of small integers, as MatMulNBits stores them, and finding these again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir._bytes import Array, Region, full_region, unpack
from graphopt.ir._channels import Taken
from graphopt.ir._expression import Expr, InMemory
from graphopt.ir._operations import Concatenated, Reshaped, Sliced, Transposed
from graphopt.ir._simplify import simplified

__all__ = ["BlockIntegers", "Blocks", "blocks_of", "ordered_blocks_of", "stacked_blocks_of"]

_ONNX_INTEGERS = {
    (4, True): ir.DataType.INT4, (4, False): ir.DataType.UINT4,
    (8, True): ir.DataType.INT8, (8, False): ir.DataType.UINT8,
}  # fmt: skip
_INTEGERS = {2: ir.DataType.UINT2, 4: ir.DataType.UINT4, 8: ir.DataType.UINT8}


@dataclass(frozen=True, eq=False)
class Blocks(Expr):
    """The float32 [N, width] that integers in blocks along each row stand for: (integer - zero) * scale.

    `packed` is uint8 [N, blocks, block * bits / 8] and `zeros` uint8 [N, ceil(blocks * bits / 8)], the first
    of a byte's integers in its low bits; without `zeros` every zero is 2^(bits-1). `scales` is float32
    [N, blocks]. The last block may reach beyond `width`. Raises `ValueError` where the sizes disagree.
    """

    op: ClassVar[str] = "blocks"
    packed: Expr
    scales: Expr
    zeros: Expr | None
    bits: int
    block: int
    width: int

    def __post_init__(self) -> None:
        count = self.packed.shape[0]
        blocks = -(-self.width // self.block)
        if self.bits not in _INTEGERS or self.block * self.bits % 8:
            raise ValueError(f"blocks of {self.block} integers of {self.bits} bits")
        wanted: tuple[tuple[Expr | None, ir.DataType, tuple[int, ...]], ...] = (
            (self.packed, ir.DataType.UINT8, (count, blocks, self.block * self.bits // 8)),
            (self.scales, ir.DataType.FLOAT, (count, blocks)),
            (self.zeros, ir.DataType.UINT8, (count, -(-blocks * self.bits // 8))),
        )
        for source, dtype, shape in wanted:
            if source is not None and (source.dtype, source.shape) != (dtype, shape):
                raise ValueError(f"{source.dtype} {list(source.shape)} where {dtype} {list(shape)} is wanted")
        self.describe((count, self.width), ir.DataType.FLOAT)

    def read(self, region: Region | None = None) -> Array:
        rows, columns = full_region(self.shape) if region is None else region
        first, last = columns.start // self.block, -(-columns.stop // self.block)
        wanted = slice(first, max(first, last))
        packed = self.packed.read((rows, wanted, slice(0, self.packed.shape[2])))
        integers = unpack(packed.reshape(-1), _INTEGERS[self.bits], packed.size * 8 // self.bits)
        values = integers.view(np.uint8).astype(np.float32).reshape(*packed.shape[:2], self.block)
        values -= self._zeros(rows, wanted)[..., None]
        values *= self.scales.read((rows, wanted))[..., None]
        start = first * self.block
        values = values.reshape(len(values), values.shape[1] * self.block)
        return values[:, columns.start - start : columns.stop - start]

    def _zeros(self, rows: slice, wanted: slice) -> Array:
        if self.zeros is None:
            return np.full((1, 1), 1 << (self.bits - 1), np.float32)
        held = slice(wanted.start * self.bits // 8, -(-wanted.stop * self.bits // 8))
        packed = self.zeros.read((rows, held))
        integers = unpack(packed.reshape(-1), _INTEGERS[self.bits], packed.size * 8 // self.bits)
        places = slice(*(place - held.start * 8 // self.bits for place in (wanted.start, wanted.stop)))
        values = integers.view(np.uint8).astype(np.float32)
        return values.reshape(len(packed), packed.shape[1] * 8 // self.bits)[:, places]

    def moved(self, move: Callable[[Expr], Expr]) -> Blocks:
        """The rows that `move` makes of them: of each part of them, along axis 0."""
        zeros = None if self.zeros is None else simplified(move(self.zeros))
        packed, scales = simplified(move(self.packed)), simplified(move(self.scales))
        return replace(self, packed=packed, scales=scales, zeros=zeros)


@dataclass(frozen=True, eq=False)
class BlockIntegers(Expr):
    """The integers of blocks along each row, as ONNX's own types have them: [N, width].

    `packed` is uint8 [N, blocks, block * bits / 8], the first of a byte's integers in its low bits. They are
    uint4 or uint8 as they stand or, if `signed`, int4 or int8, less 2^(bits-1). `ValueError` for other bits.
    """

    op: ClassVar[str] = "block-integers"
    packed: Expr
    bits: int
    width: int
    signed: bool

    def __post_init__(self) -> None:
        if (self.bits, self.signed) not in _ONNX_INTEGERS:
            raise ValueError(f"integers of {self.bits} bits")
        self.describe((self.packed.shape[0], self.width), _ONNX_INTEGERS[self.bits, self.signed])

    def read(self, region: Region | None = None) -> Array:
        rows, columns = full_region(self.shape) if region is None else region
        size = self.packed.shape[2] * 8 // self.bits
        first, last = columns.start // size, -(-columns.stop // size)
        wanted = slice(first, max(first, last))
        packed = self.packed.read((rows, wanted, slice(0, self.packed.shape[2])))
        count = packed.size * 8 // self.bits
        integers = unpack(packed.reshape(-1), _INTEGERS[self.bits], count).view(np.uint8)
        centred = integers.astype(np.int16) - (1 << (self.bits - 1) if self.signed else 0)
        values = centred.reshape(len(packed), packed.shape[1] * size).astype(self.dtype.numpy())
        return values[:, columns.start - first * size : columns.stop - first * size]


def blocks_of(expr: Expr) -> Blocks | str | None:
    """The blocks that a matrix float32 [N, K] is made of, in rows of one or several `Blocks`.

    A reason where there are some in it and it is none itself; None where there are none.
    """
    found = ordered_blocks_of(expr)
    if not isinstance(found, tuple):
        return found
    blocks, order = found
    return blocks if order is None else "in blocks of columns in another order"


def ordered_blocks_of(expr: Expr) -> tuple[Blocks, Expr | None] | str | None:
    """As `blocks_of`, with the places int64 [K] of the blocks' columns that are columns 0, 1, ... of `expr`.

    None for those in place of them: the columns are in the same order.
    """
    expr = simplified(expr)
    match expr:
        case Blocks():
            return expr, None
        case Taken(Blocks() as blocks, places, 1) if places.shape == (blocks.width,):
            return blocks, places
        case Sliced(source, 0, start, stop):
            return _moved(source, lambda part: Sliced(part, 0, start, stop))
        case Taken(source, places, 0):
            return _moved(source, lambda part: Taken(part, places, 0))
        case Concatenated(parts, 0):
            return _joined([ordered_blocks_of(part) for part in parts])
    return f"{expr.op} after it was unpacked" if _holds_blocks(expr) else None


def stacked_blocks_of(expr: Expr) -> Blocks | str | None:
    """As `blocks_of`, of an array float32 [experts, ..., K] and all of its rows, one below the other.

    Rows may have been put together and in another order, as those of gates and the rest are; but not
    columns.
    """
    expr = simplified(expr)
    if not _holds_blocks(expr):
        return None
    leaves: list[Blocks] = []
    rows = _row_numbers(expr, leaves)
    if isinstance(rows, str):
        return rows
    ends = np.cumsum([leaf.shape[0] for leaf in leaves])
    parts = [_taken(leaves, ends, places.reshape(-1)) for places in rows]
    found = _joined(parts)
    return found[0] if isinstance(found, tuple) else found


def _row_numbers(expr: Expr, leaves: list[Blocks]) -> Array | str:
    """int64 [...], which rows of `leaves`, one below the other, the rows of `expr` [..., K] are."""
    last = len(expr.shape) - 1
    match expr:
        case Blocks():
            start = sum(leaf.shape[0] for leaf in leaves)
            leaves.append(expr)
            return np.arange(start, start + expr.shape[0])
        case Concatenated(parts, axis) if axis < last:
            found = [_row_numbers(part, leaves) for part in parts]
            reason = next((rows for rows in found if isinstance(rows, str)), None)
            return reason or np.concatenate([rows for rows in found if not isinstance(rows, str)], axis)
        case Reshaped(source, _) | Transposed(source, _) | Sliced(source, _, _, _) | Taken(source, _, _) if (
            expr.shape[-1] == source.shape[-1]
        ):
            rows = _row_numbers(source, leaves)
            moved = rows if isinstance(rows, str) else _with_rows_moved(expr, rows)
            if moved is not None:
                return moved
    if not _holds_blocks(expr):
        return "joined with rows that are not in blocks"
    return f"{expr.op} after it was unpacked"


def _with_rows_moved(expr: Expr, rows: Array) -> Array | None:
    """The numbers of `expr`'s rows from those of its source; None where it moves columns."""
    last = len(expr.shape) - 1
    match expr:
        case Reshaped(_, shape):
            return rows.reshape(shape[:-1])
        case Transposed(_, perm) if perm[-1] == last:
            return rows.transpose(perm[:-1])
        case Sliced(_, axis, start, stop) if axis < last:
            return rows[(slice(None),) * axis + (slice(start, stop),)]
        case Taken(_, places, axis) if axis < last:
            return np.take(rows, places.read(), axis)
    return None


def _taken(leaves: list[Blocks], ends: Array, places: Array) -> tuple[Blocks, Expr | None] | str | None:
    """The rows at `places` of all `leaves`, one below the other; only the leaves they are in are read."""
    holder = np.searchsorted(ends, places, side="right")
    used = np.unique(holder)
    found = _joined([(leaves[index], None) for index in used])
    if not isinstance(found, tuple):
        return found
    sizes = np.array([leaves[index].shape[0] for index in used])
    before = (np.cumsum(sizes) - sizes)[np.searchsorted(used, holder)]
    local = places - (ends[holder] - np.array([leaf.shape[0] for leaf in leaves])[holder]) + before
    if np.array_equal(local, np.arange(found[0].shape[0])):
        return found
    return found[0].moved(lambda part: Taken(part, InMemory(local), 0)), None


def _moved(source: Expr, move: Callable[[Expr], Expr]) -> tuple[Blocks, Expr | None] | str | None:
    found = ordered_blocks_of(source)
    return (found[0].moved(move), found[1]) if isinstance(found, tuple) else found


def _holds_blocks(expr: Expr) -> bool:
    return isinstance(expr, Blocks) or any(_holds_blocks(source) for source in expr.sources)


def _joined(parts: list[tuple[Blocks, Expr | None] | str | None]) -> tuple[Blocks, Expr | None] | str | None:
    """The rows of all parts, one below the other."""
    if all(part is None for part in parts):
        return None
    reason = next((part for part in parts if isinstance(part, str)), None)
    if reason is not None:
        return reason
    pairs = [part for part in parts if isinstance(part, tuple)]
    if len(pairs) < len(parts):
        return "joined with rows that are not in blocks"
    found = [blocks for blocks, _ in pairs]
    forms = {(part.bits, part.block) for part in found}
    if len(forms) > 1:
        said = ", ".join(f"{bits} bits in blocks of {block}" for bits, block in sorted(forms))
        return f"joined from rows of {said}"
    if len({None if order is None else order.identity for _, order in pairs}) > 1:
        return "joined from rows with their columns in different orders"
    zeros = None
    if any(part.zeros is not None for part in found):
        zeros = _below([part.zeros or _usual_zeros(part) for part in found])
    packed, scales = _below([p.packed for p in found]), _below([p.scales for p in found])
    return replace(found[0], packed=packed, scales=scales, zeros=zeros), pairs[0][1]


def _below(parts: list[Expr]) -> Expr:
    return simplified(Concatenated(tuple(parts), 0))


def _usual_zeros(blocks: Blocks) -> Expr:
    """The zero points that `blocks` has without saying so, packed: 0x88 a byte for 4 bits."""
    byte = sum(1 << (place + blocks.bits - 1) for place in range(0, 8, blocks.bits))
    count, across = blocks.scales.shape
    return InMemory(np.full((count, -(-across * blocks.bits // 8)), byte, np.uint8))
