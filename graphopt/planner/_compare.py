"""Hosting compared: models of several sizes on several machines, and what each area contributes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphopt.errors import GraphoptError
from graphopt.machine import Interval, Profile
from graphopt.planner._candidate import Outlook
from graphopt.planner._choose import Choice, choose, label
from graphopt.planner._request import Request

__all__ = ["Area", "Hosted", "areas", "hosted"]


@dataclass(frozen=True)
class Area:
    """One of three: "compression", "software stack", "hardware". `before` and `after` are dollars for a
    million tokens without and with what it brings, those before it in place; `plan` is what is compared."""

    name: str
    before: Interval
    after: Interval
    plan: str

    @property
    def times(self) -> float:
        """How many times cheaper."""
        return self.before.value / self.after.value


@dataclass(frozen=True)
class Hosted:
    """A model on a machine: its best plan, or why there is none, in words."""

    model: str
    machine: str
    choice: Choice | None
    refused: str = ""
    break_even: Interval | None = None
    areas: tuple[Area, ...] = ()

    @property
    def outlook(self) -> Outlook | None:
        return None if self.choice is None else self.choice.best


def hosted(request: Request, reference: Profile | None = None) -> list[Hosted]:
    """`request` on each of its machines alone; `reference` is what areas begin with (default: the first)."""
    return [_hosted(request, one, reference or request.profiles[0]) for one in request.profiles]


def _hosted(request: Request, profile: Profile, reference: Profile) -> Hosted:
    try:
        choice = choose(replace(request, profiles=(profile,)))
        best = choice.best
    except GraphoptError as error:
        hint = f" {error.hint}" if error.hint else ""
        return Hosted(request.name, profile.name, None, f"{error.message}.{hint}")
    even = request.hosting.break_even(request.prompt, request.new, best.prediction.metrics)
    return Hosted(request.name, profile.name, choice, "", even, areas(request, best, profile, reference))


def areas(request: Request, best: Outlook, profile: Profile, reference: Profile) -> tuple[Area, ...]:
    """How the plain model on `reference`, a text at a time, becomes `best` on `profile`: in floats first, then
    compressed, then in batches, then on the other machine. Empty where a step cannot be priced."""
    lossless = [name for name in request.recipes if _is_plain(name)]
    steps: list[tuple[str, Request]] = [
        ("", replace(request, profiles=(reference,), recipes=lossless, batches=(1,))),
        ("compression", replace(request, profiles=(reference,), batches=(1,))),
        ("software stack", replace(request, profiles=(reference,))),
    ]
    found: list[Area] = []
    before: Interval | None = None
    for name, asked in steps:
        one = choose(asked).outlooks[0]
        after = one.prediction.metrics.get("usd_per_mtok")
        if after is None:
            return ()
        if before is not None:
            found.append(Area(name, before, after, label(one.candidate)))
        before = after
    last = best.prediction.metrics.get("usd_per_mtok")
    if before is None or last is None:
        return ()
    return (*found, Area("hardware", before, last, label(best.candidate)))


def _is_plain(name: str) -> bool:
    from graphopt.planner._recipes import Storing

    storing = Storing(name)
    return storing.recipe.budget.lossless and not storing.passes
