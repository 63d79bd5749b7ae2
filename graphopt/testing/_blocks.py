"""Weights as a source holds them that quantized them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import Blocks, Expr, InMemory, Transposed, payload

__all__ = ["in_blocks"]

_INTEGERS = {2: ir.DataType.UINT2, 4: ir.DataType.UINT4, 8: ir.DataType.UINT8}


def in_blocks(weight: np.ndarray[Any, Any], bits: int, block: int) -> Expr:
    """`weight` float32 [K, N] rounded to `bits` in blocks along K, from each block's least to its largest."""
    width, count = weight.shape
    across = -(-width // block)
    rows = np.pad(weight.T, ((0, 0), (0, across * block - width))).reshape(count, across, block)
    low, high = np.minimum(rows.min(-1), 0), np.maximum(rows.max(-1), 0)
    scales = np.maximum((high - low) / ((1 << bits) - 1), 1e-6).astype(np.float32)
    zeros = np.rint(-low / scales)
    integers = np.clip(np.rint(rows / scales[..., None]) + zeros[..., None], 0, (1 << bits) - 1)
    zeros = np.pad(zeros, ((0, 0), (0, -across % (8 // bits))))
    packed = [payload(a.astype(np.uint8), _INTEGERS[bits]).reshape(count, -1) for a in (integers, zeros)]
    weights = InMemory(packed[0].reshape(count, across, -1))
    return Transposed(Blocks(weights, InMemory(scales), InMemory(packed[1]), bits, block, width), (1, 0))
