"""Factors for the channels that products read, chosen by what rounding their weights then does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._forms import Form
from ._nbits import quantize_rows, unpacked

__all__ = ["Seen", "Weight", "chosen_steps", "factors_of"]

Floats = NDArray[np.float32]

_STEPS = 20
"""Exponents between 0 and 1 that are tried: as many as AWQ's own search."""
_FINENESS = 8
"""Factors are powers of the eighth root of two, 9 % apart: finer ones find nothing better."""
_WORTH = 0.99
"""Share of the error that may be left for a scale to be taken. A judgement: two samples differ by as much."""
_FINE = 8  # bits at which weights are rounded without a search for other scales: see `_nbits`


@dataclass(frozen=True)
class Weight:
    """float32 [N, K], some of the rows of a product, and the form that it will have."""

    rows: Floats
    form: Form


@dataclass(frozen=True)
class Seen:
    """What products read: the mean magnitude of each channel [K], and rows to choose and to judge by [n, K].

    Without rows the weights alone decide, as if all channels were alike and independent.
    """

    mean: Floats
    chosen_by: Floats | None = None
    judged_by: Floats | None = None


def factors_of(steps: Sequence[int]) -> Floats:
    """float32 [K], what `chosen_steps` stand for."""
    return np.exp2(np.asarray(steps) / _FINENESS).astype(np.float32)


def chosen_steps(weights: Sequence[Weight], seen: Seen, groups: Sequence[int] = ()) -> list[int] | None:
    """Eighths of powers of two to multiply the columns of all weights by; None where no choice pays.

    With `groups`, numbers from 0 on [K], channels of one group share their factor.
    """
    best, least = None, _error(weights, seen.chosen_by, None)
    for steps in _candidates(weights, seen.mean, np.asarray(groups, np.intp)):
        error = _error(weights, seen.chosen_by, factors_of(steps))
        if error < least:
            best, least = steps, error
    if best is None:
        return None
    before, after = (_error(weights, seen.judged_by, s) for s in (None, factors_of(best)))
    return best if after < _WORTH * before else None


def _candidates(weights: Sequence[Weight], mean: Floats, groups: NDArray[np.intp]) -> Iterator[list[int]]:
    """mean^a, and mean^a / |w|^(1 - a), centred around one."""
    typical = np.mean([np.abs(w.rows).mean(0) for w in weights], axis=0)
    if len(groups):
        sizes = np.bincount(groups)
        mean, typical = ((np.bincount(groups, x) / sizes)[groups].astype(np.float32) for x in (mean, typical))
    read, held = (np.log2(np.maximum(x, x.max() * 1e-4 + 1e-30)) for x in (mean, typical))
    for step in range(1, _STEPS + 1):
        share = step / _STEPS
        for logarithm in (share * read, share * read - (1 - share) * held):
            centred = logarithm - (logarithm.max() + logarithm.min()) / 2
            steps = np.rint(centred * _FINENESS).astype(int)
            if steps.any():
                yield [int(s) for s in steps]


def _error(weights: Sequence[Weight], inputs: Floats | None, factors: Floats | None) -> float:
    """Squared, of all products of `inputs`, where the weights are rounded after they were multiplied."""
    total = 0.0
    for weight in weights:
        rows = weight.rows if factors is None else weight.rows * factors
        width, block = rows.shape[1], weight.form.block
        while block > width and block > 16:
            block //= 2
        form = weight.form
        packed = quantize_rows(rows, form.bits, block, search=form.bits < _FINE, zeros=form.zeros)
        apart = unpacked(packed, form.bits, width)
        apart -= rows
        if factors is not None:
            apart /= factors
        if inputs is not None:
            apart = apart @ inputs.T
        total += float(np.einsum("ij,ij->", apart, apart, dtype=np.float64))
    return total
