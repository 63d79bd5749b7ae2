"""Plan, make, verify: a package by the recipe that serves best here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.cost import Situation, outcomes, record
from graphopt.errors import BadInput, CheckFailed
from graphopt.io import digest_of
from graphopt.machine import Interval, known_profile
from graphopt.metrics import METRICS, Exact
from graphopt.plan import parse_bounds
from graphopt.planner._candidate import Outlook
from graphopt.planner._choose import Choice, choose
from graphopt.planner._dollars import Hosting, dollars, exactly
from graphopt.planner._json import decision_json
from graphopt.planner._recipes import recipe_of
from graphopt.planner._request import BOUNDED, Request
from graphopt.planner._source import planned_source
from graphopt.planner._words import said
from graphopt.plugins import registry
from graphopt.recipes import OptimizeOptions, recipe_toml

if TYPE_CHECKING:
    from graphopt.build import Package

__all__ = [
    "AUTO",
    "DECISION",
    "Checked",
    "PlannedPackage",
    "check_package",
    "checked",
    "made_by_plan",
    "missed_by",
]

AUTO = "auto"
"""The recipe that is planned."""
DECISION = "planned"
"""What the lock calls the decision."""
_ROUNDS = 3
_FACTS = ("package_bytes", "weight_bytes", "bpw")


@dataclass(frozen=True)
class Checked:
    """A metric as it was predicted and then measured, and its budget as it is written, if it has one."""

    metric: str
    predicted: Interval | None
    measured: float
    bound: str | None = None
    keeps: bool = True

    @property
    def foreseen(self) -> bool:
        """Whether what was measured lies within the interval."""
        return self.predicted is None or self.predicted.low <= self.measured <= self.predicted.high


@dataclass(frozen=True)
class PlannedPackage:
    """A `package`, the `choice` that it was made by, and what came of that."""

    choice: Choice
    package: Package
    checked: tuple[Checked, ...]


def made_by_plan(
    source: str,
    out: str | Path | None,
    options: OptimizeOptions,
    *,
    recipes: Sequence[str] = (),
    minimize: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> PlannedPackage:
    """Plan for this machine within `options.budget`, make the package, and measure what was promised of it.

    `recipes` are those to weigh (default: all that are installed), `minimize` a key of `MINIMIZED`.

    Raises `BadInput` where this machine was not measured, and `CheckFailed`, nothing being installed, where
    no plan keeps the budget or the package does not.
    """
    from graphopt.build import optimize  # no plan alone needs it

    say = progress or (lambda text: None)
    say("planning")
    choice = choose(_request(source, options, recipes, minimize))
    best = choice.best
    bound = next((one.value for one in choice.request.bounds if one.metric == "kl_mean"), None)
    found: list[Checked] = []

    def check(folder: Path) -> None:
        say("measuring what was planned")
        found.extend(check_package(folder, choice, best))
        if missed := missed_by(found):
            raise CheckFailed(
                f"the package does not keep its budget: {missed}", hint="Nothing was installed."
            )

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{AUTO}.toml"
        file.write_text(recipe_toml(recipe_of(best.candidate, bound)), encoding="utf-8")
        package = optimize(
            source,
            out,
            options=replace(options, recipe=str(file), budget=(), target=best.candidate.target),
            progress=progress,
            decided={DECISION: decision_json(choice)},
            check=check,
        )
    return PlannedPackage(choice, package, tuple(found))


def _request(source: str, options: OptimizeOptions, recipes: Sequence[str], minimize: str | None) -> Request:
    cls = (
        registry.default_target()
        if options.target is None
        else registry.resolve("target", options.target, registry.targets())
    )
    profile = known_profile(cls())
    if profile is None:
        raise BadInput(
            f"recipe {AUTO!r} plans by what was measured of this machine, and nothing was with {cls.name!r}",
            hint=f"Run graphopt targets profile {cls.name}, which takes less than a minute.",
        )
    bounds = parse_bounds(options.budget, BOUNDED)
    planned = planned_source(source)
    weighed = tuple(recipes) or tuple(registry.recipes())
    prompt, new = _lengths(planned.positions)
    return Request(
        planned.name,
        planned.work,
        (profile,),
        weighed,
        bounds,
        minimize,
        prompt,
        new,
        sensitivities=planned.sensitivities,
        positions=planned.positions,
    )


def _lengths(positions: int | None) -> tuple[int, int]:
    """Tokens of a prompt and written ones: what `Request` has by default, or as many in proportion as a model
    of fewer positions takes."""
    prompt, new = Request.prompt, Request.new
    if positions is None or prompt + new <= positions:
        return prompt, new
    fewer = max(1, positions * new // (prompt + new))
    return max(1, positions - fewer), fewer


def check_package(folder: Path, choice: Choice, outlook: Outlook) -> list[Checked]:
    """Every metric of `outlook` that can be measured of the package at `folder`, beside its prediction.

    What was found is kept, so that the next plan knows how far off plans are on this machine. Divergence is
    that of the closing check, where it ran.
    """
    request, candidate = choice.request, outlook.candidate
    measured = _measured(folder, request, candidate.threads)
    profile = next(one for one in request.profiles if one.name == candidate.machine)
    per_hour = request.hosting.per_hour(profile.price_per_hour, candidate.devices)
    if per_hour is not None:
        measured |= _dollars(measured, request, per_hour)
    situation = Situation(request.prompt, request.new, 1, candidate.threads)
    found = outcomes(outlook.prediction.metrics, measured, situation, digest_of(folder / "graphopt.json"))
    record(profile, found)
    return checked(measured, request, outlook)


def missed_by(found: Sequence[Checked]) -> str:
    """Which budgets are not kept, in words; "" where all are."""
    return "; ".join(
        f"{one.metric} is {said(exactly(one.measured), METRICS[one.metric])}, and {one.bound} was asked for"
        for one in found
        if not one.keeps
    )


def checked(measured: Mapping[str, float], request: Request, outlook: Outlook) -> list[Checked]:
    """What was measured beside what was predicted and asked for, in the order of `METRICS`."""
    predicted, bounds = outlook.prediction.metrics, {one.metric: one for one in request.bounds}
    found = []
    for metric in (key for key in METRICS if key in measured and (key in predicted or key in bounds)):
        bound = bounds.get(metric)
        keeps = bound is None or METRICS[metric].holds(measured[metric], bound.value)
        text = None if bound is None else bound.text
        found.append(Checked(metric, predicted.get(metric), measured[metric], text, keeps))
    return found


def _measured(folder: Path, request: Request, threads: int) -> dict[str, float]:
    from graphopt.build import Package
    from graphopt.evaluate import bench, measure_facts

    package = Package.load(folder)
    speed = bench(
        folder, prompt_tokens=request.prompt, new_tokens=request.new, rounds=_ROUNDS, threads=threads
    ).speed
    found = {metric: one.value for metric, one in speed.metrics.items()}
    for sample in measure_facts(package, None, metrics=_FACTS):
        assert isinstance(sample.evidence, Exact)
        found[sample.metric] = sample.evidence.value
    closing = package.report().closing
    found |= {one.metric: one.value for one in closing.metrics if one.metric == "kl_mean"}
    return found


def _dollars(measured: Mapping[str, float], request: Request, per_hour: Interval) -> dict[str, float]:
    times = {key: exactly(measured[key]) for key in ("ttft", "tpot")}
    hosting: Hosting = request.hosting
    found = dollars(times, request.prompt, request.new, 1, per_hour, hosting.utilization)
    return {key: one.value for key, one in found.items()}
