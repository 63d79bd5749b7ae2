"""What evidence says: hand-computed cases, and intervals that cover where the plain percentile interval does
not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphopt.metrics import (
    Documents,
    Estimate,
    Exact,
    Turns,
    bootstrap,
    control,
    estimate,
    infer,
    units_needed,
)
from graphopt.metrics._evidence import Statistic


def documents(rng: np.random.Generator, count: int, tokens: int = 20) -> tuple[np.ndarray, ...]:
    """Skewed values; those of one document share half of what makes them differ from the true mean, 1."""
    return tuple(
        np.exp(0.7 * rng.normal() - 0.245) * np.exp(0.7 * rng.normal(size=tokens) - 0.245)
        for _ in range(count)
    )


def turns(rng: np.random.Generator, blocks: int, cv: float = 0.05, slowdown: float = 1.0) -> Turns:
    package, baseline, again = (np.exp(rng.normal(0, cv, (blocks, 2))) for _ in range(3))
    return Turns(slowdown * package, baseline, slowdown * again)


def covers(found: Estimate, truth: float) -> bool:
    return found.low <= truth <= found.high


def percentile(evidence: Turns) -> Estimate:
    assert evidence.baseline is not None
    ratios = np.log(evidence.values).mean(1) - np.log(evidence.baseline).mean(1)
    return bootstrap([np.asarray([r]) for r in ratios], lambda x: float(np.exp(x.mean())), resamples=200)


def test_an_interval_of_five_blocks_covers_where_percentiles_do_not() -> None:
    rng = np.random.default_rng(1)
    runs = [turns(rng, 5) for _ in range(400)]

    assert 0.92 <= np.mean([covers(estimate(run, relative=True), 1.0) for run in runs]) <= 0.98
    assert np.mean([covers(percentile(run), 1.0) for run in runs]) < 0.90


def test_an_interval_of_sixteen_skewed_documents_covers_more_than_percentiles_do() -> None:
    rng = np.random.default_rng(2)
    ours = plain = 0
    for _ in range(400):
        drawn = documents(rng, 16)
        ours += covers(estimate(Documents(drawn)), 1.0)
        plain += covers(bootstrap(drawn, lambda x: float(x.mean()), resamples=200), 1.0)

    assert ours / 400 >= 0.92
    assert plain / 400 < 0.90


def test_turns_without_outliers_have_the_interval_of_student() -> None:
    from scipy import stats

    run = turns(np.random.default_rng(3), 8)
    assert run.baseline is not None
    ratios = np.log(run.values).mean(1) - np.log(run.baseline).mean(1)
    expected = stats.ttest_1samp(ratios, math.log(1.02), alternative="greater")
    low, high = np.exp(stats.ttest_1samp(ratios, 0).confidence_interval(0.95))
    found = infer(run, relative=True)
    interval = found.interval(0.95)

    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert found.p_above(1.02) == pytest.approx(expected.pvalue)
    assert found.p_below(1.02) == pytest.approx(1 - expected.pvalue)


def test_with_ten_blocks_one_at_either_end_is_cut_off() -> None:
    from scipy import stats

    ratios = np.log([1.0, 1.01, 1.02, 0.99, 0.98, 1.0, 1.01, 0.99, 1.0, 3.0])
    run = Turns(np.exp(ratios)[:, None], np.ones((10, 1)))

    assert estimate(run, relative=True).value == pytest.approx(math.exp(stats.trim_mean(ratios, 0.1)))
    assert estimate(run, relative=True).high < 1.02


def test_the_control_is_the_package_over_itself() -> None:
    run = Turns(np.full((5, 2), 2.0), np.full((5, 2), 1.0), np.full((5, 2), 1.6))

    assert control(run).value == pytest.approx(1.25)


@pytest.mark.parametrize("evidence", [Turns(np.ones((5, 2))), Documents((np.ones(3),)), Exact(1.0)])
def test_a_ratio_needs_a_baseline(evidence: Turns | Documents | Exact) -> None:
    with pytest.raises(ValueError, match="relative"):
        estimate(evidence, relative=True)


def test_sums_are_taken_before_anything_is_divided() -> None:
    values, baseline = (np.asarray([9.0]), np.asarray([1.0] * 9)), (np.asarray([3.0]), np.asarray([1.0] * 9))

    assert estimate(Documents(values)).value == pytest.approx(18 / 10)
    assert estimate(Documents(values, baseline), relative=True).value == pytest.approx(18 / 12)


def test_perplexities_are_compared_by_the_mean_of_differences() -> None:
    values, baseline = (
        (np.asarray([1.0, 2.0]), np.asarray([3.0])),
        (np.asarray([1.0, 1.0]), np.asarray([2.5])),
    )
    evidence = Documents(values, baseline, "exp_mean")

    assert estimate(evidence).value == pytest.approx(math.exp(2))
    assert estimate(evidence, relative=True).value == pytest.approx(math.exp(0.5))


def test_a_percentile_is_exceeded_by_one_in_a_hundred() -> None:
    values = tuple(np.arange(start, 1000.0, 4) for start in range(4))

    assert estimate(Documents(values, statistic="p99")).value == 989.0


def test_percentiles_of_draws_are_those_of_their_tokens() -> None:
    """Against counting: every document as often as it was drawn, all tokens sorted."""
    from graphopt.metrics import _infer

    rng = np.random.default_rng(5)
    values = tuple(rng.exponential(size=int(n)) for n in rng.integers(1, 300, 12))
    weights = rng.multinomial(12, np.full(12, 1 / 12), size=30).astype(np.float64)
    tokens = [
        np.concatenate([np.tile(v, int(n)) for v, n in zip(values, row, strict=True)]) for row in weights
    ]

    expected = [np.sort(t)[::-1][math.floor(0.01 * len(t))] for t in tokens]

    assert _infer._p99(values, weights).tolist() == expected


STATISTICS: list[Statistic] = ["mean", "exp_mean", "p99"]


@pytest.mark.parametrize("statistic", STATISTICS)
def test_p_values_and_intervals_agree(statistic: Statistic) -> None:
    found = infer(Documents(documents(np.random.default_rng(6), 20), statistic=statistic))
    interval = found.interval(0.95)

    assert found.p_above(interval.low * 0.999) <= 0.027
    assert found.p_above(interval.low * 1.001) >= 0.023
    assert found.p_below(interval.high * 1.001) <= 0.027
    assert found.p_below(interval.high * 0.999) >= 0.023


@pytest.mark.parametrize("statistic", STATISTICS)
def test_what_equals_its_baseline_is_known_to(statistic: Statistic) -> None:
    values = documents(np.random.default_rng(7), 4)

    assert estimate(Documents(values, values, statistic), relative=True) == Estimate(1, 1, 1)


def test_no_divergence_anywhere_is_known_to_be_none() -> None:
    zeros = tuple(np.zeros(5) for _ in range(3))

    assert estimate(Documents(zeros)) == Estimate(0, 0, 0)
    assert estimate(Documents(zeros, zeros), relative=True) == Estimate(1, 1, 1)
    assert estimate(Documents(zeros, zeros, "p99"), relative=True) == Estimate(1, 1, 1)


def test_more_than_nothing_is_infinitely_many_times_as_much() -> None:
    zeros, ones = (tuple(np.full(5, value) for _ in range(3)) for value in (0.0, 1.0))

    assert estimate(Documents(ones, zeros), relative=True).low == math.inf
    assert estimate(Exact(1, 0), relative=True).value == math.inf
    assert estimate(Exact(0, 0), relative=True).value == 1


def test_one_document_says_nothing_of_others() -> None:
    found = infer(Documents((np.asarray([1.0, 2.0, 6.0]),)))

    assert found.interval(0.95) == Estimate(3.0, -math.inf, math.inf)
    assert (found.p_above(0), found.p_below(100)) == (1.0, 1.0)


def test_one_infinite_token_makes_the_mean_infinite_and_no_number_stays_none() -> None:
    ones = np.ones(5)
    infinite, nan = (Documents((ones, np.asarray([value]))) for value in (math.inf, math.nan))

    assert estimate(infinite) == Estimate(math.inf, math.inf, math.inf)
    assert math.isnan(estimate(nan).value)
    assert estimate(Documents(infinite.values, statistic="exp_mean")).low == math.inf


def test_an_interval_of_a_share_stays_among_shares() -> None:
    values = tuple(np.asarray([1.0] * 19 + [float(i != 0)]) for i in range(8))
    found = estimate(Documents(values))

    assert found.high == 1.0
    assert found.low < found.value < found.high


def test_documents_that_agree_by_chance_say_nothing() -> None:
    values = tuple(np.asarray([0.0, 1.0, 0.0]) for _ in range(2))

    assert estimate(Documents(values)) == Estimate(pytest.approx(1 / 3), -math.inf, math.inf)


def test_the_needed_units_decide_nearly_as_often_as_asked() -> None:
    rng, bound, decided = np.random.default_rng(8), 1.03, 0
    for _ in range(100):
        pilot = turns(rng, 6)
        as_true = Turns(pilot.values / estimate(pilot, relative=True).value, pilot.baseline)
        needed = units_needed(as_true, bound, relative=True, power=0.9).units
        assert needed is not None
        decided += infer(turns(rng, needed), relative=True).p_below(bound) <= 0.025

    assert decided >= 77  # 86 expected of a pilot of six: fewer than 77 have a probability of 0.5 %


def test_needed_documents_are_counted_in_tokens_too() -> None:
    pilot = Documents(documents(np.random.default_rng(8), 16))
    needed = units_needed(pilot, estimate(pilot).value * 1.05)

    assert needed.units is not None
    assert needed.units > 16
    assert needed.tokens == pytest.approx(20 * needed.units, abs=20)


def test_nothing_decides_what_is_on_the_bound() -> None:
    run = Turns(np.asarray([[1.0], [4.0]]), np.asarray([[2.0], [2.0]]))

    assert units_needed(run, 1.0, relative=True).units is None


def test_percentiles_of_five_units_are_expanded() -> None:
    """Draws of a normal mean of five: their interval is Student's, whose spread is not divided by five but
    four."""
    from scipy import stats

    from graphopt.metrics._inference import Drawn

    draws = stats.norm.ppf((np.arange(9999) + 0.5) / 9999)
    found = Drawn(0.0, draws, 5)
    end = math.sqrt(5 / 4) * stats.t.ppf(0.975, 4)

    assert found.interval(0.95).low == pytest.approx(-end, abs=0.05)
    assert found.interval(0.95).high == pytest.approx(end, abs=0.05)
    assert found.p_below(end) == pytest.approx(0.025, rel=0.05)
