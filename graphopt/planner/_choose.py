"""Which candidate: all of them predicted, those that keep the budgets before the others, the best first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphopt.cost import GraphWork, Situation, history_of, package_interval, with_forms
from graphopt.errors import BadInput, CheckFailed
from graphopt.machine import Interval, Profile
from graphopt.metrics import METRICS, Metric
from graphopt.planner._candidate import Candidate, Outlook
from graphopt.planner._candidates import Stock, Way, threads_of, ways
from graphopt.planner._damages import drafts
from graphopt.planner._dollars import dollars, exactly
from graphopt.planner._recipes import Storing
from graphopt.planner._request import Request
from graphopt.planner._split import held_bytes, smallest_split
from graphopt.planner._words import figure, said

__all__ = ["DRAFTED", "Choice", "ParetoPlan", "choose", "require_known"]

_WEIGHED = ("kl_mean", "tpot", "ttft", "package_bytes", "peak_memory", "usd_per_mtok")
"""What plans are compared by: one that is as good in all of them as another makes that one needless."""
_WORDS = {
    "kl_mean": "KL",
    "tpot": "time",
    "package_bytes": "bytes",
    "usd_per_mtok": "price",
}
DRAFTED = ("tpot", "decode_tokens_per_second")
"""What drafts change."""
_EQUAL = 0.005
"""Relative differences that nobody would choose by."""
_SHOWN = 8


@dataclass(frozen=True)
class ParetoPlan:
    """A plan that no other is better than in everything, and why it would be taken."""

    outlook: Outlook
    reason: str


@dataclass(frozen=True)
class Choice:
    """All outlooks of a `request`: those that keep its budgets first, the best of these first of all."""

    request: Request
    outlooks: tuple[Outlook, ...]
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Outlook:
        """The chosen one. `CheckFailed` where none keeps the budgets, with the one that is in the way."""
        if not self.outlooks[0].keeps:
            raise self._cannot()
        return self.outlooks[0]

    @property
    def binding(self) -> str | None:
        """The budget that keeps a better plan away, in words; None where none does."""
        if not self.outlooks[0].keeps:
            return None
        best, metric = self.outlooks[0], METRICS[self.request.objective]
        for bound in self.request.bounds:
            better = [
                one
                for one in self.outlooks
                if set(one.broken) == {bound.text} and _cost(one, metric) < _cost(best, metric) * (1 - _EQUAL)
            ]
            if better:
                other = min(better, key=lambda one: _cost(one, metric))
                return (
                    f"{bound.text}: without it {label(other.candidate)} would have {metric.key} "
                    f"{shown(other, metric.key)}, at {bound.metric} {shown(other, bound.metric)}"
                )
        return None

    def pareto(self) -> tuple[ParetoPlan, ...]:
        """Plans that no other is better than in everything that is weighed, the chosen one first."""
        points = [one for one in self.outlooks if one.prediction.metrics.get("tpot") is not None]
        kept = [one for one in points if not any(_beats(other, one) for other in points if other is not one)]
        first = self.outlooks[0]
        others = [one for one in kept if one is not first]
        return tuple(ParetoPlan(one, self._reason(one, first, kept)) for one in (first, *_spread_out(others)))

    def _reason(self, one: Outlook, first: Outlook, all_of_them: Sequence[Outlook]) -> str:
        if one is first:
            return "chosen" if one.keeps else "nearest"
        least = [
            word
            for key, word in _WORDS.items()
            if key in one.prediction.metrics
            and all(_value(one, key) <= _value(other, key) for other in all_of_them)
        ]
        why = [f"least {', '.join(least)}"] if least else []
        why += [f"breaks {text}" for text in one.broken]
        if not why:
            pairs = {key: (_value(one, key), _value(first, key)) for key in ("kl_mean", "tpot")}
            times = {key: value / other for key, (value, other) in pairs.items() if other}
            why.append(", ".join(f"{figure(value, 2)} x {_WORDS[key]}" for key, value in times.items()))
        return "; ".join(why)

    def _cannot(self) -> CheckFailed:
        nearest = self.outlooks[0]
        kept = {text for one in self.outlooks for text in self._texts() if text not in one.broken}
        alone = [text for text in nearest.broken if text not in kept]
        if not alone and len(self._texts()) > 1:
            what = f"{' and '.join(self._texts())} contradict each other: each can be kept, not all together"
        else:
            what = f"no plan keeps {' and '.join(alone or nearest.broken)}"
        values = [
            f"{bound.metric} {shown(nearest, bound.metric)}"
            for bound in self.request.bounds
            if bound.metric in nearest.prediction.metrics
        ]
        return CheckFailed(
            f"{self.request.name}: {what}",
            hint=f"The nearest is {label(nearest.candidate)}: "
            f"{', '.join(values) or '; '.join(nearest.broken)}.",
        )

    def _texts(self) -> list[str]:
        return [one.text for one in self.request.bounds]


def choose(request: Request) -> Choice:
    """Predict every candidate of `request`, and order them.

    Raises `BadInput` where nodes of the model are of unknown cost, which it names.
    """
    require_known(request)
    found: list[Outlook] = []
    stock = Stock(request)
    for way in ways(request):
        work = with_forms(request.work, way.candidate.forms, way.candidate.cache_bits)
        for profile in request.profiles:
            for threads in threads_of(profile, request.threads):
                for batch in request.batches:
                    one = _outlook(request, stock, way, work, profile, threads, batch)
                    found.append(one)
                    if batch == 1 and _drafts_may_keep(request, one):
                        drafted = replace(way, candidate=replace(way.candidate, drafts=True))
                        found.append(_outlook(request, stock, drafted, work, profile, threads, batch))
    if not found:
        raise BadInput(
            f"{request.name}: none of the recipes {', '.join(request.recipes)} is for such a model"
        )
    _require_predicted(request, found)
    metric = METRICS[request.objective]
    strains = {id(one): _strain(request, one) for one in found}
    found.sort(
        key=lambda one: (
            not one.keeps,
            0.0 if one.keeps else strains[id(one)],
            bool(one.candidate.budget and not request.bounds),  # nobody asked for a plan
            *_order(one, metric),
        )
    )
    return Choice(request, tuple(found), _notes(request))


def require_known(request: Request) -> None:
    """Raise `BadInput` where nodes of the model are of unknown cost, which it names."""
    if request.work.unknown:
        raise BadInput(
            f"{request.name}: nothing is known of the cost of {_some(request.work.unknown)}",
            hint="Times cannot be predicted; graphopt bench measures them.",
        )


def _require_predicted(request: Request, found: Sequence[Outlook]) -> None:
    """Raise `BadInput` for a budget or an objective that nothing is known of on any of the machines."""
    asked = {request.objective: f"--minimize {request.minimize}"} | {b.metric: b.text for b in request.bounds}
    for metric, text in asked.items():
        if not any(metric in one.prediction.metrics for one in found):
            names = ", ".join(one.name for one in request.profiles)
            raise BadInput(
                f"{text}: nothing is known of {METRICS[metric].label} on {names}",
                hint="The profile does not say; one that was measured says more.",
            )


def _outlook(
    request: Request, stock: Stock, way: Way, work: GraphWork, profile: Profile, threads: int, batch: int
) -> Outlook:
    utilization = request.hosting.utilization
    situation = Situation(
        request.prompt,
        request.new,
        batch,
        threads,
        utilisation=utilization if utilization < 1 else None,
    )
    devices, prediction = smallest_split(work, profile, situation)
    candidate = replace(
        way.candidate,
        target=profile.target,
        threads=threads,
        machine=profile.name,
        batch=batch,
        devices=devices,
    )
    metrics = {**prediction.metrics, **({} if way.kl is None else {"kl_mean": way.kl})}
    metrics["package_bytes"] = package_interval(work)
    if candidate.drafts:
        metrics |= _drafted(metrics, request.prompt)
    exact = {
        "weight_bytes": work.weight_bytes,
        "bpw": stock.bpw(candidate),
    }
    metrics |= {key: exactly(value) for key, value in exact.items() if value is not None}
    needed = held_bytes(work, situation, devices)
    if devices == 1 and "peak_memory" in metrics:
        needed = metrics["peak_memory"].value
    per_hour = request.hosting.per_hour(profile.price_per_hour, devices)
    if per_hour is not None and "tpot" in metrics:
        texts = batch * devices  # each device has a batch of its own under way
        metrics |= dollars(metrics, request.prompt, request.new, texts, per_hour, utilization)
    values = {key: one.value for key, one in metrics.items()}
    too_large = list(_too_large(needed, profile, devices))
    broken = [*request.broken(values), *_beyond(request, way), *too_large]
    unsure = [
        bound.text
        for bound in request.bounds
        if bound.text not in broken
        and not METRICS[bound.metric].holds(_worst(metrics, bound.metric), bound.value)
    ]
    return Outlook(
        candidate,
        replace(prediction, metrics=metrics),
        tuple(broken),
        tuple(unsure),
        (*way.notes, *_said_of_drafts(candidate, request.prompt)),
        not too_large,
    )


def _drafts_may_keep(request: Request, one: Outlook) -> bool:
    """Whether a token's time is all that a plan breaks, which drafts shorten. What they bring was measured
    of models whose tokens read the same weights."""
    of_time = {bound.text for bound in request.bounds if bound.metric in DRAFTED}
    if request.work.has_experts:
        return False
    return request.drafts and bool(one.broken) and of_time.issuperset(one.broken)


def _drafted(metrics: Mapping[str, Interval], prompt: int) -> dict[str, Interval]:
    """Times and rates of tokens that are written with drafts: as much faster as was measured of any text."""
    times, found = drafts(prompt), {}
    for key in DRAFTED:
        if key in metrics and METRICS[key].better == "larger":
            one = metrics[key]
            found[key] = Interval(
                value=one.value * times.value, low=one.low * times.low, high=one.high * times.high
            )
        elif key in metrics:
            one = metrics[key]
            found[key] = Interval(
                value=one.value / times.value, low=one.low / times.high, high=one.high / times.low
            )
    return found


def _said_of_drafts(candidate: Candidate, prompt: int) -> Iterator[str]:
    if candidate.drafts:
        times = drafts(prompt)
        yield (
            f"written with drafts (graphopt run --speculate), {times.low:.3g} to {times.high:.3g} times as"
            " fast by text, of a model that was measured"
        )


def _beyond(request: Request, way: Way) -> Iterator[str]:
    """Why a package would be refused though nobody bounds its divergence: what its recipe may do."""
    bound = Storing(way.candidate.recipe).recipe.budget.kl_mean
    if bound is None or way.kl is None or way.kl.value <= bound:
        return
    if all(one.metric != "kl_mean" for one in request.bounds):
        yield f"the bound of {way.candidate.recipe}, kl_mean={bound:g}"


def _too_large(needed: float, profile: Profile, devices: int) -> Iterator[str]:
    """Why a model does not run on a machine at all."""
    if needed > profile.memory_bytes:
        yield (
            f"the memory of {profile.name}: {_bytes(needed)} are needed"
            f"{f' on each of {devices}' if devices > 1 else ''}, there are {_bytes(profile.memory_bytes)}"
        )


def _bytes(count: float) -> str:
    return said(exactly(count), METRICS["peak_memory"])


def _worst(metrics: dict[str, Interval], key: str) -> float:
    one = metrics[key]
    return one.low if METRICS[key].better == "larger" else one.high


def _strain(request: Request, outlook: Outlook) -> float:
    """How far beyond its worst budget an outlook is; infinite where it does not run at all."""
    texts = {one.text: one for one in request.bounds}
    metrics = outlook.prediction.metrics
    found = [1.0]
    for text in outlook.broken:
        bound = texts.get(text)
        if bound is None or bound.metric not in metrics:
            return math.inf
        value = metrics[bound.metric].value
        found.append(bound.value / value if METRICS[bound.metric].better == "larger" else value / bound.value)
    return max(found)


def _order(outlook: Outlook, metric: Metric) -> tuple[float, ...]:
    """Plans that need no drafts first, which not every text has; then the objective to three digits, and
    where that is the same what else is weighed, to two; of plans that are as good the one that needs no
    planning."""
    rest = (_rounded(_value(outlook, key), 2) for key in _WEIGHED)
    candidate = outlook.candidate
    order = _rounded(_cost(outlook, metric), 3), *rest, bool(candidate.budget), candidate.threads
    return candidate.drafts, *order


def _rounded(value: float, digits: int) -> float:
    if not value or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def _cost(outlook: Outlook, metric: Metric) -> float:
    value = _value(outlook, metric.key)
    return -value if metric.better == "larger" else value


def _value(outlook: Outlook, key: str) -> float:
    found = outlook.prediction.metrics.get(key)
    return math.inf if found is None else found.value


def _beats(other: Outlook, one: Outlook) -> bool:
    pairs = [(_value(other, key), _value(one, key)) for key in _WEIGHED]
    return all(a <= b * (1 + _EQUAL) for a, b in pairs) and any(a < b * (1 - _EQUAL) for a, b in pairs)


def _spread_out(points: Sequence[Outlook]) -> list[Outlook]:
    """So many of them as are shown, by divergence, the ends included."""
    ordered = sorted(points, key=lambda one: _value(one, "kl_mean"))
    if len(ordered) <= _SHOWN:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (_SHOWN - 1))] for i in range(_SHOWN)]


def _notes(request: Request) -> tuple[str, ...]:
    found = []
    if request.sensitivities is None:
        found.append(
            "damages of this model were not measured: divergence is what bits cost other, small models, in"
            " wide intervals (graphopt plan --ray local measures them, where there are weights)"
        )
    for one in request.profiles:
        if one.kind == "cited":
            found.append(f"{one.name} is cited from data sheets, not measured")
        else:
            found += _history(one)
    return tuple(found)


def _history(profile: Profile) -> Iterator[str]:
    """How far off earlier predictions of this machine were."""
    for metric in ("tpot", "ttft"):
        past = history_of(profile).metrics.get(metric)
        if past is not None:
            yield (
                f"{past.count} earlier predictions of {metric} on {profile.name} were off by"
                f" {past.median_error:.1%} in the median; {past.coverage:.0%} of the intervals held"
            )


def label(candidate: Candidate) -> str:
    """A candidate in a few words."""
    parts = [candidate.recipe, *([f"within {', '.join(candidate.budget)}"] if candidate.budget else [])]
    if candidate.batch > 1:
        parts.append(f"in batches of {candidate.batch}")
    if candidate.drafts:
        parts.append("with drafts")
    machines = f"{candidate.devices} x {candidate.machine}" if candidate.devices > 1 else candidate.machine
    threads = (
        f", {candidate.threads} thread{'s' if candidate.threads > 1 else ''}" if candidate.threads else ""
    )
    return f"{' '.join(parts)} on {machines}{threads}"


def shown(outlook: Outlook, key: str) -> str:
    """A metric of an outlook in its unit, with its interval."""
    return (
        said(outlook.prediction.metrics[key], METRICS[key])
        if key in outlook.prediction.metrics
        else "unknown"
    )


def _some(names: Sequence[str]) -> str:
    few = ", ".join(names[:3])
    return few if len(names) <= 3 else f"{few} and {len(names) - 3} more"
