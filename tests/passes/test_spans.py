"""Where each method clips: beside numpy, scipy and a search by hand, on distributions that are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from graphopt_passes._spans import Observed, Span
from scipy.optimize import minimize_scalar
from scipy.stats import entropy

RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal(1 << 14).astype(np.float32)
DISTRIBUTIONS: Mapping[str, np.ndarray] = {
    "normal": NORMAL,
    "rectified": np.maximum(NORMAL, 0),
    "laplace": RNG.laplace(size=1 << 14).astype(np.float32),
    "uniform": RNG.uniform(-1, 5, 1 << 14).astype(np.float32),
    "with-outliers": np.concatenate([NORMAL, [90.0, -60.0]]).astype(np.float32),
}
named = pytest.mark.parametrize("x", DISTRIBUTIONS.values(), ids=[*DISTRIBUTIONS])


def observed(x: np.ndarray) -> Observed:
    found = Observed()
    for part in np.array_split(x, 7):
        found.add(part)
    return found


def rounded(x: np.ndarray, span: Span) -> np.ndarray:
    step = (span[1] - span[0]) / 255
    result: np.ndarray = np.rint((np.clip(x, *span) - span[0]) / step) * step + span[0]
    return result


def squared_error(x: np.ndarray, span: Span) -> float:
    """That of what is clipped counts eight times."""
    error = (rounded(x.astype(np.float64), span) - x) ** 2
    return float(np.where((x < span[0]) | (x > span[1]), 8 * error, error).mean())


def width(x: np.ndarray) -> float:
    """That of a bin: 4096 of them up to the next power of two on either side."""
    return float(2.0 ** np.ceil(np.log2(np.abs(x).max())) * 2 / 4096)


@named
def test_minmax_clips_nothing(x: np.ndarray) -> None:
    assert observed(x).span("minmax") == (min(x.min(), 0), max(x.max(), 0))


@named
@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99])
def test_percentile_is_numpys_quantile(x: np.ndarray, percentile: float) -> None:
    low, high = observed(x).span("percentile", percentile)
    outside = (1 - percentile / 100) / 2

    # Of few entries in a tail, neighbours lie farther apart than bins are wide.
    for found, share in ((low, outside), (high, 1 - outside)):
        near = np.quantile(x, [max(share - 2 / len(x), 0), min(share + 2 / len(x), 1)])
        assert near[0] - width(x) <= found <= near[1] + width(x) or found == 0


@named
def test_mse_is_as_good_as_a_search_by_hand(x: np.ndarray) -> None:
    span = observed(x).span("mse")
    low, high = min(float(x.min()), 0), max(float(x.max()), 0)
    best = min(
        minimize_scalar(lambda p: squared_error(x, (low * p, high * p)), bounds=bounds, method="bounded").fun
        for bounds in ((0.01, 0.3), (0.3, 1.0))
    )
    assert squared_error(x, span) <= 1.05 * best


def test_mse_of_a_few_outliers_clips_them_where_that_pays() -> None:
    x = DISTRIBUTIONS["with-outliers"]
    low, high = observed(x).span("mse")

    assert high < 90
    assert low > -60
    assert squared_error(x, (low, high)) < squared_error(x, (-60, 90))


@named
def test_entropy_is_the_least_divergence_of_the_histogram(x: np.ndarray) -> None:
    found = observed(x)
    edges = np.linspace(-1, 1, 4097) * width(x) * 2048
    counts = np.histogram(x.astype(np.float64), edges)[0].astype(np.float64)
    centres = (edges[1:] + edges[:-1]) / 2

    def divergence(span: Span) -> float:
        inside = (counts > 0) & (centres >= span[0]) & (centres <= span[1])
        levels = np.rint((centres[inside] - span[0]) / (span[1] - span[0]) * 255)
        p = counts[inside].copy()
        p[0] += counts[centres < span[0]].sum()
        p[-1] += counts[centres > span[1]].sum()
        q = np.asarray([counts[inside][levels == level].mean() for level in levels])
        return float(entropy(p, q))

    span = found.span("entropy")
    assert divergence(span) <= divergence((found.low, found.high)) + 1e-9
    assert found._divergence(*span) == pytest.approx(divergence(span), rel=1e-4, abs=1e-9)


def test_zero_is_always_within() -> None:
    for x in (NORMAL + 50, NORMAL - 50):
        for method in ("minmax", "percentile", "mse"):
            low, high = observed(x).span(method)  # type: ignore[arg-type]
            assert low <= 0 <= high


def test_what_is_zero_throughout_has_no_range() -> None:
    for method in ("minmax", "percentile", "mse", "entropy"):
        assert observed(np.zeros(8, np.float32)).span(method) == (0, 0)  # type: ignore[arg-type]


def test_memory_does_not_grow_with_what_is_seen() -> None:
    found = Observed()
    for _ in range(3):
        found.add(NORMAL)
        assert found._histogram.counts.nbytes == 4096 * 8
