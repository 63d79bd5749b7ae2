"""What each part of a plan is expected to gain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from graphopt.cost import Situation, package_interval, predict, with_forms
from graphopt.machine import Interval
from graphopt.planner._candidate import Outlook
from graphopt.planner._damages import drafts
from graphopt.planner._recipes import Storing
from graphopt.planner._request import Request
from graphopt.planner._split import smallest_split

__all__ = ["Gain", "gains"]

_METRICS = ("tpot", "ttft", "package_bytes", "peak_memory")
_NOTHING = 0.01
"""Relative gains that are none."""


@dataclass(frozen=True)
class Gain:
    """A `part` of a plan, and by metric how many times as large it would be without."""

    part: str
    times: Mapping[str, float]
    note: str = ""


def gains(request: Request, outlook: Outlook) -> tuple[Gain, ...]:
    """Of each pass of the chosen recipe that stores weights or caches otherwise, of threads, of batches, and
    of drafts."""
    return tuple(_gains(request, outlook))


def _gains(request: Request, outlook: Outlook) -> Iterator[Gain]:
    candidate = outlook.candidate
    profile = next(one for one in request.profiles if one.name == candidate.machine)
    storing = Storing(candidate.recipe)
    here = Situation(request.prompt, request.new, candidate.batch, candidate.threads)
    have = outlook.prediction.metrics

    def without(forms: Mapping[str, str], cache_bits: int, situation: Situation) -> dict[str, Interval]:
        work = with_forms(request.work, forms, cache_bits)
        _, found = smallest_split(work, profile, situation)
        return {**found.metrics, "package_bytes": package_interval(work)}

    if candidate.drafts:
        have = without(candidate.forms, candidate.cache_bits, here)
    whole = storing.forms(request.work)
    for name, one in storing.passes.items():
        stored = whole.keys() - storing.forms(request.work, without=name)
        if not stored and one.cache_bits is None:
            continue
        kept = {key: form for key, form in candidate.forms.items() if key not in stored}
        yield from _gain(name, have, without(kept, storing.cache_bits(without=name), here))
    fewest = min(request.threads or (1,))
    if candidate.threads > fewest:
        other = without(candidate.forms, candidate.cache_bits, replace(here, threads=fewest))
        yield from _gain(f"{candidate.threads} threads, not {fewest}", have, other)
    if candidate.batch > 1:
        alone = predict(
            with_forms(request.work, candidate.forms, candidate.cache_bits), profile, replace(here, batch=1)
        )
        rate = have["batch_tokens_per_second"].value / alone.metrics["batch_tokens_per_second"].value
        yield Gain(f"batches of {candidate.batch}", {"batch_tokens_per_second": rate})
    if candidate.batch == 1 and "tpot" in have and not request.work.has_experts:
        times = drafts(request.prompt)
        yield Gain(
            "drafts (run --speculate)",
            {"tpot": times.value},
            f"{times.low:.3g} to {times.high:.3g} by text, of a model that was measured",
        )


def _gain(part: str, have: Mapping[str, Interval], other: Mapping[str, Interval]) -> Iterator[Gain]:
    times = {
        key: other[key].value / have[key].value
        for key in _METRICS
        if key in have and key in other and have[key].value
    }
    if any(abs(factor - 1) > _NOTHING for factor in times.values()):
        yield Gain(part, times)
