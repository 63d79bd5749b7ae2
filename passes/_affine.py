"""Numbers in integers of 8 bits with a scale and a zero point, as QuantizeLinear makes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import Expr, Reshaped, Transposed, simplified
from graphopt.pipeline import Context, map_tiles

from ._gptq import Hessian, rounded_outputs
from ._spans import Span

__all__ = ["Activations", "Affine", "IntegerWeight", "affine", "rounded_bias", "rounded_weight"]

Activations = Literal["uint8", "int8"]
_UNSIGNED = 255
_SIGNED = 127
_BITS = 8
_BIAS = 1 << 30
"""Half of what 32 bits hold: so large a bias may be in steps of its scale, and the product has the rest."""
_SMALLEST = np.float32(1e-30)
"""A scale of less is none: its product with another is no normal number."""


@dataclass(frozen=True)
class Affine:
    """What stands for x is round(x / scale) + zero, within the type of `zero`, a scalar uint8 or int8."""

    scale: np.float32
    zero: NDArray[Any]

    @property
    def reach(self) -> Span:
        """What the least and the largest integer stand for."""
        limits = np.iinfo(self.zero.dtype)
        low, high = (float(self.scale) * (limit - int(self.zero)) for limit in (limits.min, limits.max))
        return low, high

    def rounded(self, x: NDArray[Any]) -> NDArray[Any]:
        """`x` in integers."""
        limits = np.iinfo(self.zero.dtype)
        found = np.rint(x / self.scale) + self.zero
        integers: NDArray[Any] = np.clip(found, limits.min, limits.max).astype(self.zero.dtype)
        return integers


def affine(span: Span, activations: Activations) -> Affine:
    """The integers that reach over `span`, in which zero is: unsigned ones, or signed ones around zero."""
    low, high = span
    if activations == "int8":
        scale = np.float32(max(-low, high) / _SIGNED)
        return Affine(_usable(scale), np.asarray(0, np.int8))
    scale = _usable(np.float32((high - low) / _UNSIGNED))
    return Affine(scale, np.asarray(np.clip(np.rint(-low / scale), 0, _UNSIGNED), np.uint8))


def _usable(scale: np.float32) -> np.float32:
    return scale if scale > _SMALLEST else np.float32(1 / _UNSIGNED)


@dataclass(frozen=True)
class IntegerWeight:
    """int8 in the shape of a weight, and float32 [n], the scales of its outputs."""

    integers: Expr
    scales: NDArray[np.float32]


def rounded_weight(
    weight: Expr,
    axis: int,
    bits: int,
    x: Affine,
    bias: NDArray[np.float32] | None,
    context: Context,
    hessian: Hessian | None = None,
) -> IntegerWeight:
    """A weight with a scale for each of its outputs, which lie along `axis`: 0, or 1 of two.

    It is rounded to nearest, or by GPTQ with the `hessian` of a product of matrices, in 8 bits. The scale of
    an output whose weights are so small that its bias would be no int32 is larger.
    """
    turned = axis != 0
    rows = simplified(Transposed(weight, (1, 0)) if turned else weight)
    count = rows.shape[0]
    flat = simplified(Reshaped(rows, (count, prod(rows.shape[1:]))))
    largest = (1 << (bits - 1)) - 1
    most = np.concatenate([*map_tiles(flat, lambda tile: np.abs(tile).max(1, initial=0))])
    scales = most / np.float32(largest)
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias) / (x.scale * np.float32(_BIAS)))
    steps = np.maximum(scales, _SMALLEST).astype(np.float32)

    def integers() -> Iterator[NDArray[np.int8]]:
        start = 0
        for tile in map_tiles(flat, lambda tile: tile):
            own = steps[start : start + len(tile)]
            if hessian is not None and bits == _BITS:
                yield rounded_outputs(np.ascontiguousarray(tile), own, hessian)
            else:
                yield np.rint(tile / own[:, None]).astype(np.int8)
            start += len(tile)

    stored = context.store(integers(), ir.DataType.INT8, flat.shape)
    shaped: Expr = Reshaped(stored, tuple(rows.shape))
    return IntegerWeight(simplified(Transposed(shaped, (1, 0)) if turned else shaped), steps)


def rounded_bias(bias: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int32]:
    """A bias in steps of `scales`, those of the sums that it is added to."""
    return np.rint(bias.astype(np.float64) / scales).astype(np.int32)
