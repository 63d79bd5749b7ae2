"""Hosting compared: models of several sizes on several machines, and what each area contributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from graphopt.errors import GraphoptError
from graphopt.machine import Interval, Profile
from graphopt.planner._candidate import Outlook
from graphopt.planner._choose import Choice, choose, label, require_known
from graphopt.planner._request import Request

__all__ = ["Area", "Hosted", "hosted"]

_PRICE = "usd_per_mtok"


@dataclass(frozen=True)
class Area:
    """One of three: "compression", "software stack", "hardware". `before` and `after` are dollars for a
    million tokens without and with what it brings; `plans` are what is compared."""

    name: str
    before: Interval
    after: Interval
    plans: tuple[str, str]

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


def hosted(request: Request) -> list[Hosted]:
    """`request` on each of its machines alone. What hardware contributes is told beside the first of them.

    Raises `BadInput` where nodes of the model are of unknown cost, whatever the machine.
    """
    require_known(request)
    found: list[Hosted] = []
    for profile in request.profiles:
        one = _hosted(request, profile)
        first = found[0] if found else one
        found.append(replace(one, areas=tuple(_areas(one, first))))
    return found


def _hosted(request: Request, profile: Profile) -> Hosted:
    try:
        choice = choose(replace(request, profiles=(profile,)))
        best = choice.best
    except GraphoptError as error:
        hint = f" {error.hint}" if error.hint else ""
        return Hosted(request.name, profile.name, None, f"{error.message}.{hint}")
    even = request.hosting.break_even(request.prompt, request.new, best.prediction.metrics)
    return Hosted(request.name, profile.name, choice, "", even)


def _areas(one: Hosted, first: Hosted) -> Iterator[Area]:
    """How the model in floats, a text at a time, becomes the best plan on its machine: compressed first, then
    in batches; and how that compares with the best plan on the `first` machine."""
    if one.choice is None:
        return
    best = one.choice.best
    alone = [other for other in one.choice.outlooks if other.candidate.batch == 1 and other.fits]
    plain = _cheapest([other for other in alone if _floats(other)])
    compressed = _cheapest([other for other in alone if other.keeps]) or _cheapest(alone)
    if compressed is not None:
        if plain is not None:
            yield from _area("compression", plain, compressed)
        yield from _area("software stack", compressed, best)
    if first.outlook is not None:
        yield from _area("hardware", first.outlook, best)


def _floats(outlook: Outlook) -> bool:
    return all("/" not in form for form in outlook.candidate.forms.values())


def _cheapest(outlooks: list[Outlook]) -> Outlook | None:
    priced = [one for one in outlooks if _PRICE in one.prediction.metrics]
    return min(priced, key=lambda one: one.prediction.metrics[_PRICE].value, default=None)


def _area(name: str, before: Outlook, after: Outlook) -> Iterator[Area]:
    prices = [one.prediction.metrics.get(_PRICE) for one in (before, after)]
    if prices[0] is not None and prices[1] is not None and prices[1].value:  # some machines cost nothing
        yield Area(name, prices[0], prices[1], (label(before.candidate), label(after.candidate)))
