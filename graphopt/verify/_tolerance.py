"""How far two results of one computation may be apart, by what a pass promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from graphopt.metrics import METRICS, cosine_similarity, kl_divergence, sqnr

if TYPE_CHECKING:
    from graphopt.pipeline import Contract

__all__ = ["LARGEST", "Agreement", "Tolerance", "compare", "tolerance_of"]

LARGEST = 0.1
"""A relative tolerance this large proves nothing, and is refused."""

_OF_ARRAYS: Mapping[str, Callable[[NDArray[Any], NDArray[Any]], float]] = {
    "kl_mean": lambda a, b: float(kl_divergence(a, b).mean()),
    "cosine_min": lambda a, b: float(cosine_similarity(a, b).min()),
    "sqnr": sqnr,
}
_ROUNDINGS = 8
"""Units of rounding, times the root of the length. A judgement: a sum's own error is a fraction of one, and
edits fuse several operators. The tests hold that wrong forms are beyond it."""
_MOST = 0.05
"""Where relative tolerances stop growing: half of what proves nothing. Float16 is there at 41 terms."""
_OF_BUDGET = 0.25
"""Share of a lossy budget that may be one common factor. A judgement: noise has next to none (`_biased`)."""
_CHANCE = 4.0
"""Standard deviations: random noise correlates with the signal by more in one of 16,000 checks."""
_OF_COSINE = 1.5
"""How much larger than noise of the cosine that is allowed the error may be: scaling hides from a cosine."""


@dataclass(frozen=True)
class Tolerance:
    """What counts as the same. `Tolerance()` is bit-equality.

    `relative`: the largest difference as a share of |expected|, or of its root mean square where that is
    more (a sum of terms that cancel is as inexact as its terms). `metric` instead of it, a key of
    `graphopt.metrics.METRICS` within `budget`: `kl_mean` (the last axis as logits, nats), `cosine_min` (of
    rows, the last axis), `sqnr` (dB).
    """

    relative: float = 0.0
    metric: str | None = None
    budget: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.relative < LARGEST:
            raise ValueError(f"a relative tolerance of {self.relative:g} is not below {LARGEST}")
        if self.metric not in (None, *_OF_ARRAYS):
            raise ValueError(
                f"edits are not judged by metric {self.metric!r}, but by {', '.join(_OF_ARRAYS)}"
            )


@dataclass(frozen=True)
class Agreement:
    """Whether two results count as the same, and why not; `value` and `bound` are of the same scale."""

    holds: bool
    value: float
    bound: float
    reason: str = ""

    def __bool__(self) -> bool:
        return self.holds


def tolerance_of(contract: Contract, dtype: DTypeLike = np.float32, length: int = 1) -> Tolerance:
    """The tolerance that `contract` stands for.

    `dtype` is what is computed in and `length` how many terms the longest sum has: the rounding errors of a
    reordered sum grow like its square root (Higham and Mary 2019, doi 10.1137/18M1226312). In 16 bits that
    would soon be everything; but kernels add in 32 bits and round in the end, so it stops at `_MOST`.
    """
    if contract.kind == "exact":
        return Tolerance()
    if contract.kind == "lossy":
        return Tolerance(metric=contract.metric, budget=contract.budget or 0.0)
    kind = np.dtype(dtype)
    if kind.kind not in "fV":
        return Tolerance()
    return Tolerance(relative=min(_ROUNDINGS * _epsilon(kind) * math.sqrt(length), _MOST))


def _epsilon(dtype: np.dtype[Any]) -> float:
    return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]


def compare(
    expected: NDArray[Any], got: NDArray[Any], tolerance: Tolerance, magnitude: float = math.inf
) -> Agreement:
    """Whether `got` is `expected` up to `tolerance`: with the same dtype, shape, NaN and infinities.

    Expected values of at least `magnitude` are left out of the root mean square that differences are a share
    of: masked ones are so large that nothing else would count beside them.
    """
    if expected.dtype != got.dtype:
        return Agreement(False, math.inf, 0.0, f"dtype {got.dtype}, not {expected.dtype}")
    if expected.shape != got.shape:
        return Agreement(False, math.inf, 0.0, f"shape {got.shape}, not {expected.shape}")
    if expected.dtype.kind not in "fV" or tolerance == Tolerance():
        return _bit_equal(expected, got)
    a, b = expected.astype(np.float64), got.astype(np.float64)
    for what, test in (("NaN", np.isnan), ("inf", np.isposinf), ("-inf", np.isneginf)):
        if not np.array_equal(test(a), test(b)):
            return Agreement(False, math.inf, 0.0, f"{what} at other positions")
    finite = np.isfinite(a)
    if tolerance.metric is None:
        return _close(np.where(finite, a, 0), np.where(finite, b, 0), tolerance.relative, magnitude)
    if not finite.all():
        return Agreement(False, math.inf, 0.0, f"{tolerance.metric} of values that are not finite")
    return _measured(a, b, tolerance)


def _bit_equal(expected: NDArray[Any], got: NDArray[Any]) -> Agreement:
    if expected.dtype.kind in "OU":  # text
        changed = int(np.count_nonzero(expected != got))
        return Agreement(not changed, float(changed), 0.0, f"{changed} strings differ" if changed else "")
    if expected.dtype.kind == "c":
        half = expected.real.dtype
        return _bit_equal(expected.reshape(-1).view(half), got.reshape(-1).view(half))
    bits = f"u{expected.dtype.itemsize}"
    same = np.ascontiguousarray(expected).view(bits) == np.ascontiguousarray(got).view(bits)
    if expected.dtype.kind in "fV":
        same |= np.isnan(expected.astype(np.float64)) & np.isnan(got.astype(np.float64))
    changed = int(np.count_nonzero(~same))
    reason = f"{changed} of {same.size} values are not bit-equal" if changed else ""
    return Agreement(not changed, float(changed), 0.0, reason)


def _close(
    a: NDArray[np.float64], b: NDArray[np.float64], relative: float, magnitude: float = math.inf
) -> Agreement:
    if not a.size:
        return Agreement(True, 0.0, relative)
    usual = a if magnitude == math.inf else a[np.abs(a) < magnitude]
    scale = np.maximum(np.abs(a), math.sqrt(float(np.mean(usual * usual))) if usual.size else 0.0)
    apart = np.abs(a - b)
    share = np.divide(apart, scale, out=np.where(apart > 0, math.inf, 0.0), where=scale > 0)
    worst = float(share.max())
    where = [int(i) for i in np.unravel_index(int(share.argmax()), share.shape)]
    holds = worst <= relative
    reason = "" if holds else f"off by {worst:.2g} (allowed {relative:.2g}) at {where}"
    return Agreement(holds, worst, relative, reason)


def _measured(a: NDArray[np.float64], b: NDArray[np.float64], tolerance: Tolerance) -> Agreement:
    rows = a.reshape(-1, a.shape[-1]) if a.ndim else a.reshape(1, 1)
    other = b.reshape(rows.shape)
    assert tolerance.metric is not None
    metric, bound = METRICS[tolerance.metric], tolerance.budget
    value = _OF_ARRAYS[metric.key](rows, other)
    if not metric.holds(value, bound):
        least = "at least " if metric.better == "larger" else ""
        return Agreement(False, value, bound, f"{metric.key} {value:.3g} (allowed {least}{bound:.3g})")
    bias = "" if metric.key == "kl_mean" else _biased(a, b, tolerance)
    return Agreement(not bias, value, bound, bias)


def _biased(a: NDArray[np.float64], b: NDArray[np.float64], tolerance: Tolerance) -> str:
    """Why `b` is no noisy `a`: all of it is scaled, which a cosine does not see and a large budget hides.

    What rounding takes away is not parallel to what is there, but for a share of its own square and what
    chance makes of so many values.
    """
    power = float(np.sum(a * a))
    if power == 0:
        return ""
    allowed = (
        10 ** (-tolerance.budget / 20)
        if tolerance.metric == "sqnr"
        else math.sqrt(2 * (1 - tolerance.budget))
    )
    gain = float(np.sum(a * b)) / power
    noise = math.sqrt(float(np.sum((b - gain * a) ** 2)) / power)
    bound = _OF_BUDGET * allowed + noise**2 + _CHANCE * noise / math.sqrt(a.size)
    if abs(gain - 1) > bound:
        return f"the whole output is scaled by {gain:.3g} (allowed 1 ± {bound:.2g})"
    total = math.sqrt(float(np.sum((a - b) ** 2)) / power)
    most = _OF_COSINE * allowed
    return f"off by {total:.2g} of its root mean square (allowed {most:.2g})" if total > most else ""
