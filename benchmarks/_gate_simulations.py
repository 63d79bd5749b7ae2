"""Gates whose truth is known, decided by the code that decides: how often each verdict is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from _gate_noise import growing, turns
from _gate_texts import Population

from graphopt.gate import MINIMUM_BLOCKS, Question, decide
from graphopt.metrics import Documents, Estimate, Sample, Turns, benjamini_hochberg, estimate, holm

__all__ = [
    "Speed",
    "covered_by_percentiles",
    "documents_covered",
    "families",
    "lengths",
    "share",
    "speed_gates",
    "text_gates",
    "turns_covered",
]

DRAWS = 999
"""Of the percentile intervals that are compared with; their ends are at the 25th of either side."""
ALPHA = 0.025
"""Level of one side, as `decide` has it by default."""


@dataclass(frozen=True)
class Speed:
    """A gate `tpot <= bound x` on a simulated machine: `limit` blocks at most, looks planned for `most`."""

    kind: str
    cv: float
    slowdown: float
    bound: float
    limit: int
    most: int


def share(count: int, of: int) -> Estimate:
    """Percent, with the exact binomial interval of 95 % (Clopper and Pearson 1934)."""
    from scipy import special

    low = special.betaincinv(count, of - count + 1, ALPHA) if count else 0.0
    high = special.betaincinv(count + 1, of - count, 1 - ALPHA) if count < of else 1.0
    return Estimate(100 * count / of, round(100 * float(low), 2), round(100 * float(high), 2))


def speed_gates(speed: Speed, gates: int, seed: int) -> tuple[Counter[str], list[int]]:
    """Verdicts, and after how many blocks each was reached."""
    rng = np.random.default_rng(seed)
    verdicts: Counter[str] = Counter()
    blocks = []
    for _ in range(gates):
        verdict, count = _decided(turns(rng, speed.kind, speed.cv, speed.limit, speed.slowdown), speed)
        verdicts[verdict] += 1
        blocks.append(count)
    return verdicts, blocks


def _decided(run: Turns, speed: Speed) -> tuple[str, int]:
    for count, seen in growing(run, MINIMUM_BLOCKS):
        question = Question(Sample("tpot", seen), "<=", speed.bound, relative=True)
        planned = count if count == speed.limit else speed.most
        verdict = decide([question], look=(count, planned)).verdict
        if verdict != "inconclusive":
            return verdict, count
    return "inconclusive", speed.limit


def text_gates(
    drawn: Callable[[np.random.Generator], Documents], bound: float, relative: bool, gates: int, seed: int
) -> Counter[str]:
    """Verdicts of `kl_mean <= bound` on documents drawn anew for each gate."""
    rng = np.random.default_rng(seed)
    return Counter(
        decide([Question(Sample("kl_mean", drawn(rng)), "<=", bound, relative)]).verdict for _ in range(gates)
    )


def families(size: int, blocks: int, cv: float, bound: float, gates: int, seed: int) -> Counter[str]:
    """How many of so many families of `size` independent gates, each just at its bound, fail by chance."""
    rng = np.random.default_rng(seed)
    failed: Counter[str] = Counter()
    for _ in range(gates):
        runs = [turns(rng, "steady", cv, blocks, bound) for _ in range(size)]
        questions = [Question(Sample("tpot", run), "<=", bound, relative=True) for run in runs]
        p = [answer.p for answer in decide(questions).answers if answer.p is not None]
        failed["none"] += min(p) <= ALPHA
        failed["Holm"] += min(holm(p)) <= ALPHA
        failed["Benjamini-Hochberg"] += min(benjamini_hochberg(p)) <= ALPHA
    return failed


def turns_covered(kind: str, cv: float, blocks: int, runs: int, seed: int) -> Counter[str]:
    """Of so many runs of equals, how many intervals hold the true ratio, 1; ours, and of percentiles."""
    rng = np.random.default_rng(seed)
    covered: Counter[str] = Counter()
    which = rng.integers(0, blocks, (DRAWS, blocks))
    of_package, of_baseline = (rng.integers(0, 2, (DRAWS, blocks, 2)) for _ in range(2))
    for _ in range(runs):
        run = turns(rng, kind, cv, blocks)
        assert run.baseline is not None
        covered["graphopt"] += _holds(estimate(run, relative=True), 1.0)
        package, baseline = np.log(run.values), np.log(run.baseline)
        ratios = (package - baseline).mean(1)
        covered["percentile of blocks"] += _percentiles(ratios[which].mean(1), 0.0)
        again = package[which[..., None], of_package] - baseline[which[..., None], of_baseline]
        covered["percentile of blocks and turns"] += _percentiles(again.mean((1, 2)), 0.0)
    return covered


def lengths(kind: str, cv: float, blocks: int, runs: int, seed: int) -> float:
    """How long our intervals of the logarithm are on average, in those of Student's t of all blocks."""
    from scipy import special

    rng = np.random.default_rng(seed)
    ours = plain = 0.0
    for _ in range(runs):
        run = turns(rng, kind, cv, blocks)
        assert run.baseline is not None
        found = estimate(run, relative=True)
        ours += np.log(found.high) - np.log(found.low)
        ratios = (np.log(run.values) - np.log(run.baseline)).mean(1)
        plain += 2 * special.stdtrit(blocks - 1, 1 - ALPHA) * ratios.std(ddof=1) / np.sqrt(blocks)
    return float(ours / plain)


def documents_covered(
    population: Population, relative: bool, documents: int, runs: int, seed: int
) -> Counter[str]:
    """The same for `documents` drawn from a population whose value is known."""
    rng = np.random.default_rng(seed)
    truth = population.truth(relative=relative)
    covered: Counter[str] = Counter()
    for _ in range(runs):
        drawn = population.drawn(rng, documents)
        covered["graphopt"] += _holds(estimate(drawn, relative=relative), truth)
        if drawn.statistic != "p99":
            covered["percentile"] += covered_by_percentiles(drawn, relative, truth, rng)
    return covered


def covered_by_percentiles(drawn: Documents, relative: bool, truth: float, rng: np.random.Generator) -> bool:
    """Whether the plain percentile interval of a mean, or of exp of one, holds the truth."""
    assert drawn.baseline is not None
    count = len(drawn.values)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)
    sums, others = (np.asarray([v.sum() for v in side]) for side in (drawn.values, drawn.baseline))
    lengths = np.asarray([len(v) for v in drawn.values])
    if drawn.statistic == "exp_mean":
        means = weights @ (sums - others if relative else sums) / (weights @ lengths)
        return _percentiles(np.exp(means), truth)
    return _percentiles(weights @ sums / (weights @ (others if relative else lengths)), truth)


def _holds(found: Estimate, truth: float) -> bool:
    return found.low <= truth <= found.high


def _percentiles(draws: np.ndarray, truth: float) -> bool:
    low, high = np.percentile(draws, [2.5, 97.5])
    return bool(low <= truth <= high)
