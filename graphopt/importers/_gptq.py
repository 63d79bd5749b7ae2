"""Weights in the layout of GPTQ's tools: qweight, qzeros, scales and perhaps g_idx.

int32 qweight [K * bits / 32, N], the first integer of a word in its lowest bits; qzeros [groups, N * bits /
32]; scales [groups, N]; g_idx [K], the group of each input. Version 1 of the format stores zero points less
one (`convert_gptq_v1_to_v2_format_module` of gptqmodel 7.7).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.importers._expressions import Integers
from graphopt.importers._layout import as_bytes, in_blocks, in_order, kept_bits
from graphopt.importers._stored import Mismatch, Parts, Said, Unkept
from graphopt.ir import Expr, FileRange, Reshaped, Sliced, Transposed

__all__ = ["GPTQ_PARTS", "gptq_weight", "order_of"]

GPTQ_PARTS = frozenset({"qweight", "qzeros", "scales", "g_idx"})


def gptq_weight(parts: Parts, said: Said, *, less_one: bool) -> Expr:
    """The weight float32 [N, K] of a layer; `less_one`: its zero points are stored less one."""
    qweight, qzeros, scales = said.needed(parts, "qweight", "qzeros", "scales")
    bits = said.bits
    kept_bits(bits)
    if len(qweight.shape) != 2 or qweight.dtype != ir.DataType.INT32:
        raise Mismatch(f"its qweight is {qweight.dtype.name.lower()} {list(qweight.shape)}")
    width, count = qweight.shape[0] * 32 // bits, qweight.shape[1]
    group = said.group_of(width)
    groups = -(-width // group)
    said.require("scales", scales, (groups, count))
    said.require("qzeros", qzeros, (groups, -(-count * bits // 32)), ir.DataType.INT32)
    rows = Reshaped(Transposed(_words(qweight), (1, 0, 2)), (count, width * bits // 8))
    order = None
    if "g_idx" in parts:
        said.require("g_idx", parts["g_idx"], (width,))
        order = order_of(parts["g_idx"].read(), groups, group)
    return in_blocks(
        rows if order is None else in_order(rows, bits, order),
        Transposed(scales, (1, 0)),
        _zeros(qzeros, bits, count, less_one=less_one),
        bits=bits,
        group=group,
        width=width,
        order=order,
    )


def _words(stored: FileRange) -> Expr:
    """The bytes of each word, [..., n, 4]."""
    return Reshaped(as_bytes(stored), (*stored.shape, 4))


def _zeros(qzeros: FileRange, bits: int, count: int, *, less_one: bool) -> Expr:
    """uint8 [N, groups]."""
    integers = Integers(as_bytes(qzeros), bits)
    largest = (1 << bits) - 1
    if less_one:
        if (integers.read()[:, :count] == largest).any():
            raise Unkept(
                f"it has a zero point that is stored as {largest}, one less than it is: some readers take it "
                f"for {largest + 1}, which is beyond {bits} bits, and others for 0"
            )
        integers = Integers(as_bytes(qzeros), bits, table=(*range(1, largest + 1), 0))
    return Transposed(Sliced(integers, 1, 0, count), (1, 0))


def order_of(g_idx: np.ndarray, groups: int, group: int) -> np.ndarray | None:
    """The order of inputs that puts those of a group together; None where they lie so."""
    index = g_idx.astype(np.int64)
    if (index < 0).any() or (index >= groups).any():
        raise Mismatch(f"its g_idx names groups {index.min()} to {index.max()}, and there are {groups}")
    if np.array_equal(index, np.arange(len(index)) // group):
        return None
    sizes = np.bincount(index, minlength=groups)
    if (sizes[:-1] != group).any():
        raise Unkept(f"its groups are of {sizes.min()} to {sizes.max()} inputs, and blocks are all alike")
    return np.argsort(index, kind="stable")
