"""Which products may be computed with activations rounded coarsely, by measured damage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from graphopt.ir import ConstantMatrix, tiles
from graphopt.pipeline import Calibration

__all__ = ["Rest", "Scale", "cheapest"]

Array = np.ndarray[Any, Any]
Scale = Literal["tensor", "row"]
Rest = Literal["blocks", "twice"]
_UNCHANGED = 1e-9  # of 1 - cosine: above what float64 leaves of equal rows, below what any rounding does
_BLOCK = 128  # that of the recipe whose blocks are estimated: docs/decisions/block-size.md


def cheapest(
    products: Mapping[ir.Node, ConstantMatrix],
    calibration: Calibration,
    scale: Scale,
    rest: Rest,
    budget: float,
) -> list[str]:
    """Names of weights whose products, so computed, raise the damage of each output to at most `budget`.

    A product counts at the first output that it changes: in what is made of that, a pooled vector say, most
    of the damage is averaged out. Those that cost least for their size come first. An activation has one
    scale for each `scale`; products that are not chosen are taken to be rounded in blocks, or twice, as
    `rest` says. A product's damage is measured by putting its rounded result into the model; that of the
    others follows from it, damage being proportional to the noise's power in each row.
    """
    gains: list[tuple[float, str, Array]] = []
    spent: Array = np.zeros(())
    arrays = zip(products.items(), calibration.values(found.x for found in products.values()), strict=True)
    for (node, found), x in arrays:
        w = np.concatenate([tile for _, tile in tiles(found.rows)]).T
        exact = x @ w
        coarse, fine = _ROUNDED[scale](x) @ _per_output(w) - exact, _REST[rest](x, w) - exact
        share = min(1.0, _power(fine, exact) / max(_power(coarse, exact), 1e-30))
        exact += coarse if found.bias is None else coarse + _bias(found.bias)
        damage = calibration.damage(node.outputs[0], exact)
        damage[np.flatnonzero(damage > _UNCHANGED)[1:]] = 0
        spent = spent + damage * share
        more = damage * (1 - share)
        gains.append((float(more.max()) / found.size, found.name, more))
    chosen = []
    for _, name, more in sorted(gains, key=lambda gain: gain[:2]):
        if (spent + more <= budget).all():
            spent = spent + more
            chosen.append(name)
    return sorted(chosen)


def _power(noise: Array, exact: Array) -> float:
    """The noise's power relative to that of what it is in, the mean over rows."""
    return float(((noise**2).sum(-1) / np.maximum((exact**2).sum(-1), 1e-30)).mean())


def _bias(value: ir.Value) -> Array:
    assert value.const_value is not None
    return value.const_value.numpy()


def _per_tensor(x: Array) -> Array:
    """`x` rounded to 256 levels from its smallest to its largest entry, as DynamicQuantizeLinear does."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = np.float32((high - low) / 255 or 1)
    zero = np.rint(-low / step)
    rounded: Array = (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step
    return rounded


def _per_row(x: Array) -> Array:
    """`x` rounded so, each row divided by its largest entry meanwhile."""
    sizes = np.maximum(np.abs(x).max(-1, keepdims=True), 1e-30)
    rounded: Array = _per_tensor(x / sizes) * sizes
    return rounded


_ROUNDED: Mapping[Scale, Callable[[Array], Array]] = {"tensor": _per_tensor, "row": _per_row}


def _per_output(w: Array) -> Array:
    """`w` [K, N] rounded to 255 levels a column."""
    step = np.maximum(np.abs(w).max(0), 1e-30) / 127
    rounded: Array = np.rint(w / step) * step
    return rounded


def _in_blocks(x: Array, w: Array) -> Array:
    """The product, x rounded by row and w by column in blocks of 128 along the axis between them."""
    total = np.zeros((*x.shape[:-1], w.shape[1]), np.float32)
    for start in range(0, w.shape[0], _BLOCK):
        part, rows = w[start : start + _BLOCK], x[..., start : start + _BLOCK]
        step = np.maximum(np.abs(rows).max(-1, keepdims=True), 1e-30) / 127
        total += (np.rint(rows / step) * step) @ _per_output(part)
    return total


def _twice(x: Array, w: Array) -> Array:
    """The product of w, rounded by column, with x rounded and with what that left of x, rounded again."""
    once = _per_tensor(x)
    product: Array = (once + _per_tensor(x - once)) @ _per_output(w)
    return product


_REST: Mapping[Rest, Callable[[Array, Array], Array]] = {"blocks": _in_blocks, "twice": _twice}
