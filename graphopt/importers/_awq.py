"""Weights in the layout of AutoAWQ's "gemm": qweight, qzeros, scales.

int32 qweight [K, N / 8], qzeros [groups, N / 8] and scales [groups, N]: a word holds eight outputs, in the
order 0, 2, 4, 6, 1, 3, 5, 7 from its lowest bits on (autoawq 0.2.9, `awq/utils/packing_utils.py`).
"""

from __future__ import annotations

import onnx_ir as ir

from graphopt.importers._expressions import Integers, Packed
from graphopt.importers._layout import as_bytes, in_blocks
from graphopt.importers._stored import Mismatch, Parts, Said, Unkept
from graphopt.ir import Expr, FileRange, Transposed

__all__ = ["AWQ_PARTS", "awq_weight"]

AWQ_PARTS = frozenset({"qweight", "qzeros", "scales"})
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where each of eight outputs lies in a word."""


def awq_weight(parts: Parts, said: Said) -> Expr:
    """The weight float32 [N, K] of a layer."""
    qweight, qzeros, scales = said.needed(parts, "qweight", "qzeros", "scales")
    if said.bits != 4:
        raise Unkept(f"it is of {said.bits} bits, and AWQ's layout is known of 4")
    if len(qweight.shape) != 2 or qweight.dtype != ir.DataType.INT32:
        raise Mismatch(f"its qweight is {qweight.dtype.name.lower()} {list(qweight.shape)}")
    width, count = qweight.shape[0], qweight.shape[1] * 8
    group = said.group_of(width)
    groups = -(-width // group)
    said.require("scales", scales, (groups, count))
    said.require("qzeros", qzeros, (groups, count // 8), ir.DataType.INT32)
    return in_blocks(
        Packed(_by_output(qweight), 4),
        Transposed(scales, (1, 0)),
        _by_output(qzeros),
        bits=4,
        group=group,
        width=width,
    )


def _by_output(stored: FileRange) -> Expr:
    """uint8 [N, n] of int32 [n, N / 8]."""
    return Transposed(Integers(as_bytes(stored), 4, _PLACES), (1, 0))
