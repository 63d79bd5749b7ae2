"""What passes for the same result, and above all what does not."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from graphopt.pipeline import Contract
from graphopt.verify import Tolerance, compare, tolerance_of

REASSOCIATED = tolerance_of(Contract.reassociates(), np.float32, 4096)
COSINE, KL, SQNR = (
    tolerance_of(Contract.lossy(metric, budget))
    for metric, budget in (("cosine_min", 0.99), ("kl_mean", 0.02), ("sqnr", 30.0))
)


def result(dtype: type = np.float32) -> np.ndarray:
    """[batch, heads, sequence, size], with a spread like that of activations."""
    return (np.random.default_rng(0).standard_normal((2, 4, 5, 16)) * 3).astype(dtype)


def one_changed(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(x: np.ndarray) -> np.ndarray:
        changed = x.copy()
        changed[1, 2, 3, 4] = value
        return changed

    return change


WRONG: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "two heads swapped": lambda x: x[:, [1, 0, 2, 3]],
    "one percent off": lambda x: x * np.float32(1.01),
    "one value a hundredth off": lambda x: one_changed(float(x[1, 2, 3, 4]) + 0.01 * float(x.std()))(x),
    "a NaN": one_changed(float("nan")),
    "an infinity": one_changed(float("inf")),
    "all zeros": np.zeros_like,
    "another shape": lambda x: x[:, :, :4],
    "a broadcastable shape": lambda x: x[:1],
    "transposed": lambda x: x.swapaxes(1, 2),
    "another dtype": lambda x: x.astype(np.float64),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("tolerance", [Tolerance(), REASSOCIATED], ids=["exact", "reassociates"])
def test_a_wrong_result_fails(change: Callable[[np.ndarray], np.ndarray], tolerance: Tolerance) -> None:
    verdict = compare(result(), change(result()), tolerance)

    assert not verdict
    assert verdict.reason


@pytest.mark.parametrize("tolerance", [COSINE, KL, SQNR], ids=["cosine", "kl", "sqnr"])
@pytest.mark.parametrize(
    "change", [v for k, v in WRONG.items() if "hundredth" not in k and "percent" not in k]
)
def test_a_wrong_result_fails_a_lossy_contract(
    change: Callable[[np.ndarray], np.ndarray], tolerance: Tolerance
) -> None:
    assert not compare(result(), change(result()), tolerance)


@pytest.mark.parametrize("tolerance", [Tolerance(), REASSOCIATED, COSINE, KL, SQNR])
def test_the_same_result_holds(tolerance: Tolerance) -> None:
    assert compare(result(), result(), tolerance)


def test_another_order_of_summation_holds() -> None:
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((8, 4096), (4096, 8)))
    turned = x[:, ::-1] @ w[::-1]
    verdict = compare(x @ w, turned, REASSOCIATED)

    assert verdict
    assert 0 < verdict.value < verdict.bound / 10
    assert not compare(x @ w, turned, Tolerance())


def test_small_damage_is_within_a_lossy_budget_and_outside_the_others() -> None:
    noisy = result() * np.float32(1.001)
    for tolerance in (COSINE, KL, SQNR):
        assert compare(result(), noisy, tolerance)
    assert not compare(result(), noisy, REASSOCIATED)


def test_nan_and_infinities_in_the_same_places_are_the_same() -> None:
    odd = one_changed(float("nan"))(result())
    odd[0, 0, 0, 0] = -np.inf

    assert compare(odd, odd.copy(), Tolerance())
    assert compare(odd, odd.copy(), REASSOCIATED)
    other = odd.copy()
    other[0, 0, 0, 0] = np.inf
    assert not compare(odd, other, REASSOCIATED)


def test_exact_tells_the_zeros_apart() -> None:
    assert not compare(np.zeros(1, np.float32), -np.zeros(1, np.float32), Tolerance())


def test_integers_and_booleans_are_compared_exactly_under_any_tolerance() -> None:
    assert not compare(np.arange(9), np.arange(9) + (np.arange(9) == 8), REASSOCIATED)
    assert not compare(np.ones(3, bool), np.asarray([True, True, False]), REASSOCIATED)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_has_coarser_tolerances(dtype: type) -> None:
    x = result(dtype)
    next_up = (x.astype(np.float32) * (1 + float(ml_dtypes.finfo(dtype).eps))).astype(dtype)
    tolerance = tolerance_of(Contract.reassociates(), dtype)

    assert compare(x, next_up, tolerance)
    assert not compare(x, x * dtype(1.25), tolerance)
    longest = tolerance_of(Contract.reassociates(), dtype, 1 << 16)
    assert tolerance.relative <= longest.relative <= 0.05
    assert not compare(x, x * dtype(1.1), longest)


@pytest.mark.parametrize("relative", [0.1, 1.0, float("nan"), -1e-3])
def test_a_tolerance_that_proves_nothing_is_refused(relative: float) -> None:
    with pytest.raises(ValueError, match=r"not below 0\.1"):
        Tolerance(relative)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="perplexity"):
        Tolerance(metric="perplexity")
    with pytest.raises(ValueError, match="not judged by metric 'kl', but by kl_mean, cosine_min, sqnr"):
        Tolerance(metric="kl")


def test_it_says_how_far_off_and_what_is_allowed() -> None:
    expected = np.ones((2, 3), np.float32)
    got = expected.copy()
    got[1, 2] = 1.25
    found = compare(expected, got, Tolerance(relative=2e-5))
    assert found.reason == "off by 0.25 (allowed 2e-05) at [1, 2]"
    lossy = compare(expected, -expected, Tolerance(metric="cosine_min", budget=0.9))
    assert lossy.reason == "cosine_min -1 (allowed at least 0.9)"
