"""Nodes that round a value to integers and widen it again."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.pipeline import Nodes

from ._affine import Affine

__all__ = ["hard_sigmoid", "parameters", "there_and_back"]


def hard_sigmoid(x: ir.Value, alpha: float, beta: float, new: Nodes) -> ir.Value:
    """Clip(alpha * x + beta, 0, 1): the integers of `x` with another scale, in which 255 is 1.

    It stands behind a LeakyRelu that changes nothing: for this there are kernels that look integers up.
    """
    same = new.op("LeakyRelu", [x], "same", like=x, alpha=1.0)
    wide = Affine(np.float32(1 / (255 * alpha)), np.asarray(np.floor(255 * beta), np.uint8))
    integers = new.op(
        "QuantizeLinear",
        [same, *parameters(wide, "wide", new)],
        "gate/integers",
        like=x,
        dtype=ir.DataType.UINT8,
    )
    parts = parameters(Affine(np.float32(1 / 255), np.asarray(0, np.uint8)), "gate", new)
    return new.op("DequantizeLinear", [integers, *parts], "gate", like=x)


def parameters(kind: Affine, label: str, new: Nodes) -> list[ir.Value]:
    return [
        new.constant(kind.scale, np.float32, f"{label}/scale"),
        new.constant(kind.zero, kind.zero.dtype, f"{label}/zero"),
    ]


def there_and_back(x: ir.Value, kind: Affine, label: str, new: Nodes) -> ir.Value:
    """`x` rounded to integers and widened again."""
    parts = parameters(kind, label, new)
    dtype = ir.DataType.from_numpy(kind.zero.dtype)
    integers = new.op("QuantizeLinear", [x, *parts], f"{label}/integers", like=x, dtype=dtype)
    return new.op("DequantizeLinear", [integers, *parts], label, like=x)
