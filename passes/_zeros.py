"""Whether zero points are worth their bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphopt.ir import Expr

from ._forms import Form
from ._nbits import quantize_rows, unpacked

__all__ = ["zero_points_pay"]

_ROWS = 256  # looked at in a weight, eight pieces of them
_PIECES = 8


def zero_points_pay(rows: Expr, form: Form, gram: NDArray[np.float32] | None = None) -> bool:
    """Whether zero points lower the error of `rows` [N, K] by more than their bits would, spent on levels.

    One bit more a weight quarters the squared error. The error is that of products with what has the `gram`
    matrix [K, K]; of the weight itself without. Some rows stand for all.
    """
    count, width = rows.shape
    step = -(-count // _PIECES)
    starts = range(0, count, step)
    length = min(step, _ROWS // _PIECES)
    importance = None if gram is None else np.ascontiguousarray(gram.diagonal())
    errors = {False: 0.0, True: 0.0}
    for start in starts:
        tile = rows.read((slice(start, min(start + length, count)), slice(0, width)))
        for zeros in errors:
            packed = quantize_rows(tile, form.bits, form.block, zeros=zeros, importance=importance)
            off = unpacked(packed, form.bits, width) - tile
            errors[zeros] += float(np.vdot(off, off if gram is None else off @ gram))
    spent = Form(form.bits, form.block, True).bits_a_weight - Form(form.bits, form.block).bits_a_weight
    return errors[True] < errors[False] * float(4.0**-spent)
