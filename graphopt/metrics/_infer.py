"""From evidence to what it says: documents are resampled, blocks of turns are compared as they are."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from graphopt.metrics._average_precision import average_precisions
from graphopt.metrics._estimate import Estimate
from graphopt.metrics._evidence import Evidence, Exact, Turns
from graphopt.metrics._inference import Drawn, Inference, Known, Studentized, Unknown

__all__ = ["control", "estimate", "infer"]

_DRAWS = 9999
"""So that a p value of 1e-4 can be told from chance: 0.025 shared among 250 gates."""
_SEED = 0
"""Any one: the same measurements have the same interval."""
_LEAST_ERROR = 0.25
"""Of a draw's standard error, in the sample's: a draw of documents that happen to agree has none, and would
be infinitely many of its own errors away. A quarter is a draw of documents that agree uncommonly well."""
_AGREED = 1e-12
"""Units that differ by less than this share of the value differ by rounding of float64 sums."""
_TRIMMED = 0.1
"""Share of blocks cut off at either end of the sorted ratios: one of ten. `benchmarks/gates.py` compares."""

Floats = NDArray[np.float64]


def estimate(evidence: Evidence, *, relative: bool = False, confidence: float = 0.95) -> Estimate:
    """The value that `evidence` gives a metric, or that over the baseline's, with its confidence interval.

    See `infer` for how. Raises ValueError where `relative` and the evidence has no baseline.
    """
    return infer(evidence, relative=relative).interval(confidence)


def control(turns: Turns, *, confidence: float = 0.95) -> Estimate:
    """The A/A ratio of a run: the package over itself. Raises ValueError where it was not measured."""
    return infer(Turns(turns.values, turns.control), relative=True).interval(confidence)


def infer(evidence: Evidence, *, relative: bool = False) -> Inference:
    """What `evidence` says of the true value, or `relative` of that over the baseline's.

    *Documents* are resampled whole and both sides together, 9,999 times (paired block bootstrap; Künsch
    1989). Means are ratios of sums, with studentized intervals (bootstrap-t; Efron and Tibshirani 1993,
    chapter 12; Hall 1988); percentiles and mean average precision, which no sum is, have expanded percentile
    intervals (Hesterberg 2015).

    *Turns*: the mean over the turns of a block of the logarithm is the block's, that over the other side's
    where relative. Blocks are the units: turns of one block share its drift. Their trimmed mean, a tenth cut
    at either end, is the estimate, with Student's t and a winsorized standard error (Tukey and McLaughlin
    1963).

    What all units agree on is known. Of one unit nothing is known but its value. NaN stays NaN, and an
    infinite mean is known to be infinite.
    """
    if relative and evidence.baseline is None:
        raise ValueError("a relative value needs what it is relative to")
    if isinstance(evidence, Exact):
        return Known(_over(evidence.value, evidence.baseline if relative else None))
    if isinstance(evidence, Turns):
        return _turns(evidence.values, evidence.baseline if relative else None)
    other = evidence.baseline if relative else None
    if evidence.statistic == "p99":
        return _percentile(evidence.values, other)
    if evidence.statistic == "average_precision":
        return _objects(evidence.values, other)
    if evidence.statistic == "exp_mean":
        return _perplexity(evidence.values, other)
    return _mean(evidence.values, other)


def _over(value: float, baseline: float | None) -> float:
    """The ratio; 1 where both are 0, for they are equal."""
    if baseline is None:
        return value
    if baseline == 0:
        return 1.0 if value == 0 else value * math.inf
    return value / baseline


def _turns(values: Floats, baseline: Floats | None) -> Inference:
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(values).mean(1)
        if baseline is not None:
            logs = logs - np.log(baseline).mean(1)
    if not np.isfinite(logs).all():
        return Known(math.nan, len(logs))
    return _trimmed_mean(logs)


def _trimmed_mean(logs: Floats) -> Inference:
    """exp of the mean of float64[blocks] without the extreme tenth at either end."""
    units = len(logs)
    cut = int(_TRIMMED * units)
    ordered = np.sort(logs)
    kept = ordered[cut : units - cut]
    centre = float(kept.mean())
    if units == 1:
        return Unknown(math.exp(centre))
    winsorized = ordered.clip(kept[0], kept[-1])
    squares = float(((winsorized - winsorized.mean()) ** 2).sum())
    error = math.sqrt(squares / (len(kept) * (len(kept) - 1)))
    if error <= _AGREED:
        return Known(math.exp(centre), units)
    return Studentized(centre, error, len(kept) - 1, units, log=True)


def _mean(values: tuple[Floats, ...], baseline: tuple[Floats, ...] | None) -> Inference:
    tokens = np.concatenate(values)
    if baseline is None:
        ones = tuple(np.ones_like(v) for v in values)
        return _ratio(values, ones, float(tokens.min()), float(tokens.max()))
    positive = bool((tokens >= 0).all() and all((v >= 0).all() for v in baseline))
    return _ratio(values, baseline, least=0.0 if positive else -math.inf)


def _perplexity(values: tuple[Floats, ...], baseline: tuple[Floats, ...] | None) -> Inference:
    if baseline is not None:
        with np.errstate(invalid="ignore"):
            values = tuple(a - b for a, b in zip(values, baseline, strict=True))
    return _ratio(values, tuple(np.ones_like(v) for v in values), log=True)


def _ratio(
    values: tuple[Floats, ...],
    others: tuple[Floats, ...],
    least: float = -math.inf,
    most: float = math.inf,
    *,
    log: bool = False,
) -> Inference:
    """Sum of `values` over sum of `others`; exp of that where `log`."""
    units = len(values)
    with np.errstate(invalid="ignore", over="ignore"):
        above, below = (np.asarray([v.sum() for v in side], np.float64) for side in (values, others))
        ratio = _over(float(above.sum()), float(below.sum()))
        value = float(np.exp(ratio)) if log else ratio
    if not math.isfinite(value) or not math.isfinite(below.sum()) or below.sum() == 0:
        return Known(value, units)
    if _agree(np.concatenate(values), ratio * np.concatenate(others)):
        return Known(value, units)
    rest = above - ratio * below
    if _agree(above, ratio * below):
        return Unknown(value, units)
    error = math.sqrt(float(rest @ rest) * units / (units - 1)) / float(below.sum())
    return Studentized(ratio, error, _studentized_draws(rest, below, error), units, log, least, most)


def _agree(values: Floats, expected: Floats) -> bool:
    if values.shape != expected.shape:
        return False
    return bool(np.abs(values - expected).max() <= _AGREED * np.abs(values).max())


@lru_cache(maxsize=2)
def _weights(units: int) -> Floats:
    """How often each unit is in each draw, float64[draws, units]."""
    rng = np.random.default_rng(_SEED)
    return rng.multinomial(units, np.full(units, 1 / units), size=_DRAWS).astype(np.float64)


def _studentized_draws(rest: Floats, below: Floats, error: float) -> Floats:
    """(ratio of a draw - ratio of the sample) / the draw's own standard error, sorted.

    `rest` is what units are above the ratio times `below`; `error` the sample's standard error.
    """
    units = len(rest)
    weights = _weights(units)
    total = weights @ below
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = (weights @ rest) / total
        squares = weights @ rest**2 - 2 * shift * (weights @ (rest * below)) + shift**2 * (weights @ below**2)
        errors = np.sqrt(squares.clip(min=0) * units / (units - 1)) / np.abs(total)
        draws = shift / np.maximum(errors, _LEAST_ERROR * error)
    return np.sort(draws[np.isfinite(draws)])


def _percentile(values: tuple[Floats, ...], baseline: tuple[Floats, ...] | None) -> Inference:
    units = len(values)
    tokens = np.concatenate(values)
    if np.isnan(tokens).any() or (baseline is not None and np.isnan(np.concatenate(baseline)).any()):
        return Known(math.nan, units)
    once = np.ones((1, units))
    value = float(_percentiles(values, baseline, once)[0])
    other = np.ones_like(tokens) if baseline is None else np.concatenate(baseline)
    if math.isnan(value) or (tokens == value * other).all():
        return Known(value, units)
    if units == 1:
        return Unknown(value)
    draws = _percentiles(values, baseline, _weights(units))
    return Drawn(value, np.sort(draws[~np.isnan(draws)]), units)


def _percentiles(values: tuple[Floats, ...], baseline: tuple[Floats, ...] | None, weights: Floats) -> Floats:
    """The 99th percentile of all tokens, or its ratio to the baseline's, float64[draws]."""
    above = _p99(values, weights)
    if baseline is None:
        return above
    below = _p99(baseline, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((above == 0) & (below == 0), 1.0, above / below)


def _objects(values: tuple[Floats, ...], baseline: tuple[Floats, ...] | None) -> Inference:
    """Mean average precision of images; known where every image alone has what all have together."""

    def of(weights: Floats) -> Floats:
        above = average_precisions(values, weights)
        if baseline is None:
            return above
        below = average_precisions(baseline, weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where((above == 0) & (below == 0), 1.0, above / below)

    units = len(values)
    value = float(of(np.ones((1, units)))[0])
    alone = of(np.eye(units))
    if math.isnan(value) or (alone[~np.isnan(alone)] == value).all():
        return Known(value, units)
    if units == 1:
        return Unknown(value)
    draws = of(_weights(units))
    return Drawn(value, np.sort(draws[~np.isnan(draws)]), units)


def _p99(values: tuple[Floats, ...], weights: Floats) -> Floats:
    """The least value that 99 % of tokens do not exceed, each as often as `weights` has its document."""
    tokens = np.concatenate(values)
    lengths = np.asarray([len(v) for v in values])
    order = np.argsort(-tokens, kind="stable")
    owners = np.repeat(np.arange(len(values)), lengths)[order]
    may_exceed = 0.01 * (weights @ lengths)
    return np.asarray(tokens[order][_first_beyond(owners, weights, may_exceed)], np.float64)


def _first_beyond(owners: NDArray[np.intp], weights: Floats, may_exceed: Floats) -> NDArray[np.intp]:
    """For each draw the first place at which more than `may_exceed` have been counted, by bisection.

    `owners` is the document of each token, in the order of counting.
    """
    units, count = weights.shape[1], 1
    while True:
        count = min(4 * count + len(owners) // 64, len(owners))
        counted = np.cumsum(owners[:count, None] == np.arange(units), axis=0, dtype=np.float64)
        if count == len(owners) or (weights @ counted[-1] > may_exceed).all():
            break
    low, high = np.zeros(len(weights), np.intp), np.full(len(weights), count - 1)
    while (low < high).any():
        middle = (low + high) // 2
        beyond = np.einsum("ij,ij->i", weights, counted[middle]) > may_exceed
        low, high = np.where(beyond, low, middle + 1), np.where(beyond, middle, high)
    return low
