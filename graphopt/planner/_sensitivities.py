"""Damages of a model's own weights, where a run has measured them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.plan import Bound, Choice, Plan, Table, Together, Unit, allocate, predicted
from graphopt.planner._recipes import planning_options, written

__all__ = ["Sensitivities"]

_STEP = "plan"


@dataclass(frozen=True)
class Sensitivities:
    """What a `plan` that was made of the model knows, whatever it was made for.

    `planning` are the options of the pass that made it, those of its budget left out. `factor` is how many
    times as large as predicted the divergence of its package was, and `near` what it was, in nats a token;
    None where none was measured.
    """

    plan: Plan
    planning: Mapping[str, Any]
    factor: float | None = None
    near: float | None = None

    @classmethod
    def of(cls, plan: Plan, options: Mapping[str, Any]) -> Sensitivities:
        """What `plan` knows, made by its pass with these `options`."""
        planning = planning_options(plan.step, options)
        measured, predicted = plan.measured.get("kl_mean"), plan.predicted.get("kl_mean")
        if not (measured and predicted):
            return cls(plan, planning)
        return cls(plan, planning, measured / predicted, measured)

    @property
    def names(self) -> frozenset[str]:
        """Of the weights that are planned for."""
        return frozenset(name for unit in self.plan.units for name in unit.names)

    def table(self, seconds: Callable[[Sequence[str], str], float] | None, factor: float) -> Table:
        """Units as `graphopt.plan` has them, damages as they are on other text: `factor` times as large.

        `seconds` is what products of weights by name, in a form, take of a token.
        """
        plan = self.plan
        units = [
            Unit(
                unit.names,
                unit.entries,
                tuple(
                    Choice(form, damage, size, seconds and seconds(unit.names, form))
                    for form, (damage, size) in unit.others.items()
                ),
            )
            for unit in plan.units
        ]
        fixed = {key: value for key, value in plan.fixed.items() if key.endswith(("bytes", "memory"))}
        if seconds is not None:
            fixed |= {"tpot": 0.0, "decode_tokens_per_second": 0.0}
        return Table(units, Together(plan.scale * factor, plan.power), fixed)

    def damage(self, forms: Mapping[str, str]) -> float | None:
        """The divergence that is predicted of weights in these forms; None where one was not weighed."""
        table = self.table(None, 1.0)
        chosen = []
        for unit in table.units:
            known = [choice.form for choice in unit.choices]
            asked = {forms.get(written(name)) for name in unit.names} - {None}
            if len(asked) != 1 or (form := asked.pop()) not in known:
                return None
            chosen.append(known.index(str(form)))
        return predicted(table, chosen)["kl_mean"]

    def forms(
        self,
        bounds: Sequence[Bound],
        factor: float,
        seconds: Callable[[Sequence[str], str], float] | None,
    ) -> dict[str, str]:
        """The form of each weight of the plan that keeps to `bounds`: the smallest, or where `seconds` are
        told the fastest. Raises `CheckFailed` where none does."""
        table = self.table(seconds, factor)
        found = allocate(table, bounds, step=_STEP, smallest="bytes" if seconds is None else "seconds")
        return {written(name): form for name, form in found.forms.items()}
