"""Rounding to nearest in C, where it was compiled: bit for bit what `_nbits` does in numpy, and faster."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["round_to_nearest"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_BLOCKS = (16, 32, 64, 128, 256)
"""What the C code takes: whole vectors, and no more than its buffer holds."""


def round_to_nearest(
    rows: Floats, bits: int, block: int, inverses: Floats
) -> tuple[Bytes, Floats, bool] | None:
    """Levels uint8 [N, blocks, block * bits / 8] and scales float32 [N, blocks] of float32 [N, K].

    `inverses` of factors are tried on each scale. The last is whether all entries are finite: the arrays hold
    nothing of use where they are not. None where there is no compiled library, or it does not take the block.
    """
    function = _function()
    if function is None or block not in _BLOCKS:
        return None
    count, width = rows.shape
    blocks = -(-width // block)
    weight = np.empty((count, blocks, block * bits // 8), np.uint8)
    scales = np.empty((count, blocks), np.float32)
    held = [
        np.ascontiguousarray(rows, np.float32),
        np.ascontiguousarray(inverses, np.float32),
        weight,
        scales,
    ]
    given, tried, *made = (array.ctypes.data for array in held)
    finite = function(given, count, width, block, bits, tried, len(inverses), *made)
    return weight, scales, bool(finite)


@functools.cache
def _function() -> Any:
    file = Path(__file__).with_name("_compiled.abi3.so")
    if not file.is_file():
        return None
    function = ctypes.CDLL(str(file)).round_to_nearest
    place, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [place, number, number, number, number, place, number, place, place]
    function.restype = ctypes.c_bool
    return function
