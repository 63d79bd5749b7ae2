"""The closing check: the deployed package on its target against the source it was made from.

A lossless package is held to the numbers of docs/architecture.md in every case of the input domain. A lossy
one is held to its recipe's budget on data, and in every case of the domain to the same budget more loosely,
because a case has few tokens: its mean may not exceed what 99 % of tokens stay under.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from graphopt.interface import Arrays, Model
from graphopt.io import parts_of
from graphopt.metrics import (
    METRICS,
    Metric,
    cosine_similarity,
    kl_divergence,
    rms_difference,
    scaled_difference,
    top1_mismatches,
)
from graphopt.verify import Noise, is_rounded

if TYPE_CHECKING:
    from graphopt.recipes import Budget

__all__ = [
    "BUDGET",
    "LOSSLESS",
    "CheckedMetric",
    "ClosingCase",
    "ClosingCheck",
    "Noises",
    "closing_check",
    "own_noise",
]

LOSSLESS = 1e-3
"""Standard deviations of an output: what fp32 sums in another order lose stays below, and a top-1 token
hardly ever changes by it (docs/architecture.md)."""
DISTRIBUTION = "logits"
BUDGET = "its budget"
"""The case of metrics that a package is held to whatever its source gives."""
_ORDER = ("passed", "not run", "inconclusive", "failed")

Noises = Mapping[tuple[str, str], Noise]
"""By the name of a case and of an output."""


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
class CheckedMetric:
    """A metric of one output in one case, by its key in `graphopt.metrics.METRICS`, and its bound."""

    case: str
    output: str
    metric: str
    value: float
    bound: float

    @property
    def described(self) -> Metric:
        return METRICS[self.metric]

    @property
    def holds(self) -> bool:
        """Whether the value is within its bound. NaN is not."""
        return self.described.holds(self.value, self.bound)

    def __str__(self) -> str:
        metric = self.described
        value, bound = metric.text(self.value), f"{metric.text(self.bound)} {metric.unit}".rstrip()
        allowed = (
            f"at least {bound} is needed" if metric.better == "larger" else f"at most {bound} is allowed"
        )
        return f"{self.output} in {self.case}: {metric.label} is {value}, {allowed}"


@dataclass(frozen=True)
class ClosingCheck:
    """What the check came to. `reference` is what the package was compared with; `reason`, why no verdict, or
    more about what differs.
    """

    verdict: Literal["passed", "failed", "inconclusive", "not run"]
    reference: str = ""
    reason: str = ""
    metrics: tuple[CheckedMetric, ...] = ()
    seconds: float = 0.0

    def failures(self) -> list[CheckedMetric]:
        """The metrics that do not hold, the worst first."""
        beyond = [one for one in self.metrics if not one.holds]
        return sorted(beyond, key=lambda one: one.described.strain(one.value, one.bound), reverse=True)

    def and_then(self, other: ClosingCheck) -> ClosingCheck:
        """Both: as good as the worse of them."""
        worse = max(self, other, key=lambda check: _ORDER.index(check.verdict))
        return ClosingCheck(
            worse.verdict,
            self.reference,
            worse.reason,
            self.metrics + other.metrics,
            self.seconds + other.seconds,
        )

    def difference(self) -> str:
        """What is wrong with a package that failed, in one line."""
        more = f" ({self.reason})" if self.reason else ""
        first = self.failures()[0]
        what = "does not keep its budget" if first.case == BUDGET else "differs from its source"
        return f"the package {what}: {first}{more}"


def closing_check(
    reference: Model,
    package: Model,
    *,
    cases: Iterable[ClosingCase],
    budget: Budget,
    distribution: bool,
    against: str,
    measured: Iterable[CheckedMetric] = (),
    noise: Noises | None = None,
) -> ClosingCheck:
    """Compare `package` with `reference` over `cases`, after what was `measured` on data.

    `reference` and `package` take the same feeds (the caller puts the adapters before the package). Cases of
    one name count together where divergences are averaged.
    `distribution`: the output `logits` is a distribution over tokens, judged by KL divergence; other outputs
    of a lossy package are judged by cosine. `against` is what to call the reference. `noise` is how far the
    source is from itself (`own_noise`), if it rounds to fewer bits: a lossless package may be that far off.
    """
    started = time.perf_counter()
    metrics = list(measured)
    if budget.lossless:
        for case, expected, got in _results(reference, package, cases):
            metrics += _lossless(case.name, expected, got, noise)
    elif distribution:
        metrics += _divergences(_results(reference, package, cases), budget)
    else:
        for case, expected, got in _results(reference, package, cases):
            metrics += _cosines(case.name, expected, got, budget)
    seconds = time.perf_counter() - started
    if not metrics:
        reason = "the recipe's budget bounds nothing that this model puts out, or all of it is empty"
        return ClosingCheck("inconclusive", against, reason, seconds=seconds)
    verdict: Literal["passed", "failed"] = "passed" if all(c.holds for c in metrics) else "failed"
    return ClosingCheck(verdict, against, metrics=tuple(metrics), seconds=seconds)


def own_noise(pairs: Iterable[tuple[Model, Model]], cases: Iterable[ClosingCase]) -> Noises:
    """How far the two models of each pair are apart, at most: runs of one source that differ in rounding."""
    noises: dict[tuple[str, str], Noise] = {}
    cases = list(cases)
    for reference, other in pairs:
        for case, expected, got in _results(reference, other, cases):
            for name, value in expected.items():
                key = case.name, name
                noises[key] = noises.get(key, Noise()) | Noise.of(value, got[name])
    return noises


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


def _lossless(case: str, expected: Selected, got: Selected, noise: Noises | None) -> Iterator[CheckedMetric]:
    for name, value in expected.items():
        other, own = got[name], (noise or {}).get((case, name), Noise())
        is_number = np.issubdtype(value.dtype, np.floating) or (noise is not None and is_rounded(value.dtype))
        if not is_number:
            differing = float(np.count_nonzero(value != other)) if value.shape == other.shape else np.inf
            yield CheckedMetric(case, name, "mismatched_values", differing, own.differing)
            continue
        bound = LOSSLESS if noise is None else own.largest_allowed(LOSSLESS)
        yield CheckedMetric(case, name, "scaled_difference", scaled_difference(value, other), bound)
        if noise is not None:
            yield CheckedMetric(
                case, name, "rms_difference", rms_difference(value, other), own.rms_allowed(LOSSLESS)
            )
        if name == DISTRIBUTION:
            yield CheckedMetric(case, name, "top1_mismatches", top1_mismatches(value, other, 2 * bound), 0)


def _divergences(
    results: Iterable[tuple[ClosingCase, Selected, Selected]], budget: Budget
) -> Iterator[CheckedMetric]:
    bound = budget.kl_p99 if budget.kl_p99 is not None else budget.kl_mean
    if bound is None:
        return
    tokens: dict[str, list[np.ndarray]] = {}
    for case, expected, got in results:
        tokens.setdefault(case.name, []).append(kl_divergence(expected[DISTRIBUTION], got[DISTRIBUTION]))
    for name, parts in tokens.items():
        mean = float(np.concatenate(parts).mean())
        yield CheckedMetric(name, DISTRIBUTION, "kl_mean", mean, bound)


def _cosines(case: str, expected: Selected, got: Selected, budget: Budget) -> Iterator[CheckedMetric]:
    if budget.cosine_min is None:
        return
    for name, value in expected.items():
        if np.issubdtype(value.dtype, np.floating) and value.ndim > 0:
            lowest = float(cosine_similarity(value, got[name]).min())
            yield CheckedMetric(case, name, "cosine_min", lowest, budget.cosine_min)
