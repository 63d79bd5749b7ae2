"""Plans as data, for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from graphopt.machine import Interval, Profile
from graphopt.metrics import METRICS
from graphopt.planner._candidate import Outlook
from graphopt.planner._choose import Choice
from graphopt.planner._compare import Hosted
from graphopt.planner._gains import gains
from graphopt.planner._request import Request

if TYPE_CHECKING:
    from graphopt.planner._verify import Verified

__all__ = ["choice_json", "decision_json", "hosted_json", "verified_json"]

_VERSION = 1


def choice_json(choice: Choice) -> dict[str, Any]:
    """All of a plan. `chosen` is None where no plan keeps the budgets; `nearest` says how near one comes."""
    first = choice.outlooks[0]
    return {
        "version": _VERSION,
        **_asked(choice.request),
        "machines": [_machine(one) for one in choice.request.profiles],
        "chosen": _outlook(first) if first.keeps else None,
        "nearest": None if first.keeps else _outlook(first),
        "binding": choice.binding,
        "pareto": [{"reason": one.reason, **_outlook(one.outlook)} for one in choice.pareto()],
        "gains": [asdict(one) for one in gains(choice.request, first)],
        "notes": list(choice.notes),
    }


def decision_json(choice: Choice) -> dict[str, Any]:
    """What a lock keeps of a plan: what was asked, what was chosen, and by which measurements of which
    machine."""
    asked = {key: value for key, value in _asked(choice.request).items() if key != "model"}
    return {
        **asked,
        "machines": [_machine(p) for p in choice.request.profiles],
        "chosen": _outlook(choice.best),
    }


def hosted_json(request: Request, found: Sequence[Hosted]) -> dict[str, Any]:
    """A comparison of machines; `request` is the first of its models'."""
    return {
        "version": _VERSION,
        **{key: value for key, value in _asked(request).items() if key != "model"},
        "machines": [_machine(one) for one in request.profiles],
        "hosted": [
            {
                "model": one.model,
                "machine": one.machine,
                "refused": one.refused,
                "plan": None if one.outlook is None else _outlook(one.outlook),
                "break_even_utilization": None if one.break_even is None else one.break_even.model_dump(),
                "areas": [
                    {
                        "name": area.name,
                        "before": area.before.model_dump(),
                        "after": area.after.model_dump(),
                        "times": area.times,
                        "plans": list(area.plans),
                    }
                    for area in one.areas
                ],
                "notes": [] if one.choice is None else list(one.choice.notes),
            }
            for one in found
        ],
    }


def verified_json(found: Sequence[Verified]) -> list[dict[str, Any]]:
    """What came of plans that were made."""
    return [
        {
            "plan": _outlook(one.outlook),
            "error": one.error,
            "keeps": one.keeps,
            "measured": [
                {
                    "metric": checked.metric,
                    "measured": checked.measured,
                    "predicted": None if checked.predicted is None else checked.predicted.model_dump(),
                    "foreseen": checked.foreseen,
                    "keeps": checked.keeps,
                }
                for checked in one.checked
            ],
        }
        for one in found
    ]


def _asked(request: Request) -> dict[str, Any]:
    return {
        "model": request.name,
        "budget": [one.text for one in request.bounds],
        "minimize": request.objective,
        "prompt_tokens": request.prompt,
        "new_tokens": request.new,
        "batches": list(request.batches),
        **asdict(request.hosting),
    }


def _machine(profile: Profile) -> dict[str, Any]:
    price = profile.price_per_hour
    return {
        "name": profile.name,
        "kind": profile.kind,
        "date": profile.date.isoformat(),
        "memory_bytes": profile.memory_bytes,
        "price_per_hour": None if price is None else price.model_dump(),
        "sources": {key: one.model_dump(mode="json") for key, one in profile.sources.items()},
    }


def _outlook(outlook: Outlook) -> dict[str, Any]:
    candidate, prediction = outlook.candidate, outlook.prediction
    return {
        "recipe": candidate.recipe,
        "within": list(candidate.budget),
        "target": candidate.target,
        "machine": candidate.machine,
        "devices": candidate.devices,
        "threads": candidate.threads,
        "batch": candidate.batch,
        "drafts": candidate.drafts,
        "cache_bits": candidate.cache_bits,
        "forms": _counts(candidate.forms.values()),
        "metrics": {key: one.model_dump() for key, one in prediction.metrics.items() if key in METRICS},
        "broken": list(outlook.broken),
        "unsure": list(outlook.unsure),
        "widened": list(prediction.widened),
        "queue": None if prediction.queue is None else asdict(prediction.queue),
        "notes": list(outlook.notes),
        "step": {name: _bound(part.seconds, part.by) for name, part in prediction.step.items()},
    }


def _bound(seconds: Interval, by: str) -> dict[str, Any]:
    return {"seconds": seconds.value, "bound_by": by}


def _counts(forms: Any) -> dict[str, int]:
    from collections import Counter

    return dict(sorted(Counter(forms).items()))
