"""The first few plans made and measured, beside what was predicted of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graphopt.cost import Situation, outcomes, record
from graphopt.planner._auto import Checked, checked, missed_by
from graphopt.planner._candidate import Candidate, Outlook
from graphopt.planner._choose import DRAFTED, Choice
from graphopt.planner._recipes import recipe_of
from graphopt.recipes import Recipe, recipe_toml

__all__ = ["Verified", "verify"]

_METRICS = ("kl_mean", "tpot", "ttft", "load_time", "peak_memory", "package_bytes", "weight_bytes", "bpw")


@dataclass(frozen=True)
class Verified:
    """An outlook and what came of it: metrics as they were `checked`, or why there is no package."""

    outlook: Outlook
    checked: tuple[Checked, ...]
    error: str | None = None

    @property
    def keeps(self) -> bool:
        return self.error is None and all(one.keeps for one in self.checked)

    def missed(self) -> str:
        """Which budgets are not kept, in words."""
        return missed_by(self.checked)


def verify(choice: Choice, count: int, *, source: str, ray: str = "local") -> list[Verified]:
    """Make the first `count` plans of `choice` from `source`, and measure them; plans that differ in threads
    alone are one package. What was found is kept with the machine's record."""
    from graphopt.sweep import Measure, Trial, measured

    request = choice.request
    chosen = _different(choice.outlooks, count)
    bound = next((one.value for one in request.bounds if one.metric == "kl_mean"), None)
    cores = max(one.candidate.threads for one in chosen)
    trials = [Trial(source, _configured(one.candidate, bound), one.candidate.target) for one in chosen]
    measures = [
        Measure(
            _METRICS,
            prompt_tokens=request.prompt,
            new_tokens=request.new,
            threads=one.candidate.threads,
            cores=cores,
        )
        for one in chosen
    ]
    found = []
    came_of = measured(trials, measures, ray=ray)
    for outlook, trial, came in zip(chosen, trials, came_of, strict=True):
        if came.error is not None:
            found.append(Verified(outlook, (), came.error))
            continue
        values = {metric: one.value for metric, one in came.metrics.items()}
        profile = next(one for one in request.profiles if one.name == outlook.candidate.machine)
        situation = Situation(request.prompt, request.new, 1, outlook.candidate.threads)
        if outlook.candidate.drafts:  # what they bring is not measured
            values = {key: value for key, value in values.items() if key not in DRAFTED}
        record(profile, outcomes(outlook.prediction.metrics, values, situation, str(trial.arguments())))
        found.append(Verified(outlook, tuple(checked(values, request, outlook))))
    return found


def _different(outlooks: Sequence[Outlook], count: int) -> list[Outlook]:
    """The first of each recipe and forms: two budgets may come to the same package."""
    found: dict[object, Outlook] = {}
    for one in outlooks:
        candidate = one.candidate
        key = (candidate.recipe, candidate.cache_bits, tuple(sorted(candidate.forms.items())))
        found.setdefault(key, one)
    return list(found.values())[:count]


def _configured(candidate: Candidate, kl_mean: float | None) -> Recipe:
    from graphopt.build import chosen_target, configured

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{candidate.recipe}.toml"
        file.write_text(recipe_toml(recipe_of(candidate, kl_mean)), encoding="utf-8")
        return configured(str(file), (), chosen_target(candidate.target))
