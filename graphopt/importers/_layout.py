"""Integers with a scale for each group along a row, in blocks that MatMulNBits takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from graphopt.importers._expressions import Integers, Packed, Repeated
from graphopt.importers._stored import Unkept
from graphopt.ir import Blocks, Cast, Concatenated, Expr, FileRange, InMemory, Reshaped, Sliced, Taken

__all__ = ["KEPT_BITS", "as_bytes", "in_blocks", "in_order", "kept_bits"]

KEPT_BITS = (2, 4, 8)
_SIZES = (256, 128, 64, 32, 16)


def kept_bits(bits: int) -> None:
    """Raise `Unkept` for widths that no kernel has."""
    if bits not in KEPT_BITS:
        raise Unkept(f"it is of {bits} bits, and kernels take 2, 4 and 8")


def as_bytes(stored: FileRange) -> Expr:
    """The bytes of `stored` [..., n], [..., n * bytes of an element]."""
    size = stored.dtype.bitwidth // 8
    *outer, last = stored.shape
    return replace(stored, dtype=ir.DataType.UINT8, shape=(*outer, last * size))


def in_order(rows: Expr, bits: int, order: np.ndarray) -> Expr:
    """Packed rows [N, bytes] with their integers in the order that `order` says."""
    return Packed(Taken(Integers(rows, bits), InMemory(order), 1), bits)


def in_blocks(
    rows: Expr,
    scales: Expr,
    zeros: Expr | None,
    *,
    bits: int,
    group: int,
    width: int,
    order: np.ndarray | None = None,
) -> Expr:
    """Float32 [N, width] from packed rows [N, bytes], scales [N, groups] and zeros uint8 [N, groups].

    A group becomes one block or several. Zero points that are all 2^(bits-1) are left out. Where the rows'
    integers are in another order than the weight's columns, `order` says which column each is. Raises
    `Unkept` for groups that are no whole blocks.
    """
    count, groups = scales.shape
    block = next((size for size in _SIZES if group % size == 0 or groups == 1), None)
    if block is None:
        raise Unkept(f"its groups of {group} are not made of blocks of 16 to 256, which kernels take")
    while groups == 1 and block > width and block > _SIZES[-1]:
        block //= 2
    blocks = -(-width // block)
    times = blocks if groups == 1 else group // block
    if zeros is not None and (zeros.read() == 1 << (bits - 1)).all():
        zeros = None
    made = Blocks(
        Reshaped(_padded(rows, blocks * block * bits // 8), (count, blocks, block * bits // 8)),
        Cast(_spread(scales, times, blocks), ir.DataType.FLOAT),
        None if zeros is None else Packed(_spread(zeros, times, blocks), bits),
        bits,
        block,
        width,
    )
    return made if order is None else Taken(made, InMemory(np.argsort(order)), 1)


def _padded(rows: Expr, size: int) -> Expr:
    """Rows of `size` bytes: cut where a tool filled up a word, zeros where a block is not full."""
    count, held = rows.shape
    if held < size:
        missing = InMemory(np.zeros((1, size - held), np.uint8))
        return Concatenated((rows, Repeated(missing, 0, count, count)), 1)
    return rows if held == size else Sliced(rows, 1, 0, size)


def _spread(expr: Expr, times: int, blocks: int) -> Expr:
    return expr if times == 1 else Repeated(expr, 1, times, blocks)
