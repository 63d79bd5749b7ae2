"""The closing check: the deployed package on its target against the source it was made from.

A lossless package is held to design section 4's numbers in every case of the input domain. A lossy one is
held to its recipe's budget on data, and in every case of the domain to the same budget more loosely, because
a case has few tokens: its mean may not exceed what 99 % of tokens stay under.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from graphopt._arrays import parts_of
from graphopt.errors import CheckFailed, Inconclusive
from graphopt.verify._measures import changed_tokens, cosines, divergences, scaled_difference

if TYPE_CHECKING:
    from graphopt.pipeline import Budget

__all__ = ["LOSSLESS", "METRICS", "ClosingCase", "ClosingCheck", "ClosingComparison", "closing_check"]

LOSSLESS = 1e-3
DISTRIBUTION = "logits"
METRICS = {
    "scaled": "max |Δ| / std",
    "differing": "values that differ",
    "top1": "tokens changed",
    "kl_mean": "mean KL",
    "kl_p99": "99th percentile KL",
    "cosine": "lowest cosine",
}
"""What the metrics of comparisons are called in front of people."""

_ORDER = ("passed", "not run", "inconclusive", "failed")

Arrays = Mapping[str, np.ndarray]
Model = Callable[[Arrays], Mapping[str, np.ndarray]]


class ClosingCase(Protocol):
    """Feeds by the source's input names, and for each output what of it is specified.

    A mask is a bool array that broadcasts to its output; an output without one is compared whole.
    """

    @property
    def name(self) -> str: ...
    @property
    def feeds(self) -> Arrays: ...
    @property
    def compare(self) -> Arrays: ...


@dataclass(frozen=True)
class ClosingComparison:
    """One number and its bound: value ≤ bound, or value ≥ bound where `at_least`."""

    case: str
    output: str
    metric: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the value is within its bound. NaN is not."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        allowed = "at least" if self.at_least else "at most"
        name = METRICS.get(self.metric, self.metric)
        return (
            f"{self.output} in {self.case}: {name} is {self.value:.3g}, {allowed} {self.bound:.3g} is allowed"
        )


@dataclass(frozen=True)
class ClosingCheck:
    """What the check came to. `reference` is what the package was compared with; `reason`, why no verdict."""

    verdict: Literal["passed", "failed", "inconclusive", "not run"]
    reference: str = ""
    reason: str = ""
    comparisons: tuple[ClosingComparison, ...] = ()
    seconds: float = 0.0

    def failures(self) -> list[ClosingComparison]:
        """The comparisons that do not hold, the worst first."""
        beyond = [c for c in self.comparisons if not c.holds]
        return sorted(beyond, key=lambda c: c.value / c.bound if c.bound > 0 else c.value, reverse=True)

    def and_then(self, other: ClosingCheck) -> ClosingCheck:
        """Both: as good as the worse of them."""
        worse = max(self, other, key=lambda check: _ORDER.index(check.verdict))
        return ClosingCheck(
            worse.verdict,
            self.reference,
            worse.reason,
            self.comparisons + other.comparisons,
            self.seconds + other.seconds,
        )

    def require(self) -> None:
        """Raise `CheckFailed` or `Inconclusive` unless the package passed."""
        if self.verdict == "failed":
            worst = self.failures()[0]
            raise CheckFailed(f"the package differs from its source: {worst}")
        if self.verdict == "inconclusive":
            raise Inconclusive(self.reason)


def closing_check(
    reference: Model,
    package: Model,
    *,
    cases: Iterable[ClosingCase],
    budget: Budget,
    distribution: bool,
    against: str,
    measured: Iterable[ClosingComparison] = (),
) -> ClosingCheck:
    """Compare `package` with `reference` over `cases`, after what was `measured` on data.

    `reference` and `package` take the same feeds (the caller puts the adapters before the package). Cases of
    one name count together where divergences are averaged.
    `distribution`: the output `logits` is a distribution over tokens, judged by KL divergence; other outputs
    of a lossy package are judged by cosine. `against` is what to call the reference.
    """
    started = time.perf_counter()
    found = list(measured)
    if budget.lossless:
        for case, expected, got in _results(reference, package, cases):
            found += _lossless(case.name, expected, got)
    elif distribution:
        found += _divergent(_results(reference, package, cases), budget)
    else:
        for case, expected, got in _results(reference, package, cases):
            found += _turned(case.name, expected, got, budget)
    seconds = time.perf_counter() - started
    if not found:
        reason = "the recipe's budget bounds nothing that this model puts out, or all of it is empty"
        return ClosingCheck("inconclusive", against, reason, seconds=seconds)
    verdict: Literal["passed", "failed"] = "passed" if all(c.holds for c in found) else "failed"
    return ClosingCheck(verdict, against, comparisons=tuple(found), seconds=seconds)


Selected = dict[str, np.ndarray]


def _results(
    reference: Model, package: Model, cases: Iterable[ClosingCase]
) -> Iterator[tuple[ClosingCase, Selected, Selected]]:
    """Each case with both results, cut down to what is specified."""
    for case in cases:
        expected, got = reference(case.feeds), package(case.feeds)
        yield case, *_selected(expected, got, case.compare)


def _selected(expected: Arrays, got: Arrays, masks: Arrays) -> tuple[Selected, Selected]:
    kept: tuple[Selected, Selected] = ({}, {})
    for name, whole in expected.items():
        mask = masks.get(name)
        if mask is not None and not mask.any():
            continue
        others = dict(parts_of(name, got.get(name, np.empty(0))))
        for part, value in parts_of(name, whole):
            pair = value, others.get(part, np.empty(0))
            if value.size == 0 and pair[0].shape == pair[1].shape:
                continue
            for side, array in zip(kept, pair, strict=True):
                side[part] = array if mask is None or array.shape != value.shape else _cut(array, mask)
    return kept


def _cut(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What `mask` keeps of `array`: whole rows where it does not tell entries of a row apart."""
    if mask.all():
        return array
    kept = np.broadcast_to(mask, array.shape)
    cut: np.ndarray = array[kept[..., 0] if mask.shape[-1] == 1 and array.ndim > 1 else kept]
    return cut


def _lossless(case: str, expected: Selected, got: Selected) -> Iterator[ClosingComparison]:
    for name, value in expected.items():
        if not np.issubdtype(value.dtype, np.floating):
            differing = (
                float(np.count_nonzero(value != got[name])) if value.shape == got[name].shape else np.inf
            )
            yield ClosingComparison(case, name, "differing", differing, 0)
            continue
        yield ClosingComparison(case, name, "scaled", scaled_difference(value, got[name]), LOSSLESS)
        if name == DISTRIBUTION:
            yield ClosingComparison(case, name, "top1", changed_tokens(value, got[name]), 0)


def _divergent(
    results: Iterable[tuple[ClosingCase, Selected, Selected]], budget: Budget
) -> Iterator[ClosingComparison]:
    bound = budget.kl_p99 if budget.kl_p99 is not None else budget.kl_mean
    if bound is None:
        return
    tokens: dict[str, list[np.ndarray]] = {}
    for case, expected, got in results:
        tokens.setdefault(case.name, []).append(divergences(expected[DISTRIBUTION], got[DISTRIBUTION]))
    for name, parts in tokens.items():
        mean = float(np.concatenate(parts).mean())
        yield ClosingComparison(name, DISTRIBUTION, "kl_mean", mean, bound)


def _turned(case: str, expected: Selected, got: Selected, budget: Budget) -> Iterator[ClosingComparison]:
    if budget.cosine is None:
        return
    for name, value in expected.items():
        if np.issubdtype(value.dtype, np.floating) and value.ndim > 0:
            lowest = float(cosines(value, got[name]).min())
            yield ClosingComparison(case, name, "cosine", lowest, budget.cosine, at_least=True)
