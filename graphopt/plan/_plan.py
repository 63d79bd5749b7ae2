"""A plan as it is recorded: in a lock, and in a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PLAN", "Attempt", "ParetoPoint", "Plan", "PlannedUnit"]

PLAN = "plan"
"""The decision of a context that holds a `Plan`, as data."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class PlannedUnit(_Data):
    """Weights, the form that they are stored in, and why it is that one.

    `bytes` are what they take, `damage` the KL divergence that they make alone, in nats a token. `others` are
    damage and bytes of every form that was weighed, and `seconds` what products in it take of a token, where
    that is known.
    """

    names: tuple[str, ...]
    entries: int
    form: str
    bytes: int
    damage: float
    reason: str
    others: dict[str, tuple[float, int]] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)


class ParetoPoint(_Data):
    """The least predicted `kl_mean` at so many bits a weight, and how many weights have each form there."""

    bpw: float
    bytes: int
    kl_mean: float
    forms: dict[str, int]


class Attempt(_Data):
    """What was predicted of a plan that did not keep its budget, and measured of the package it became.

    Both are by metric, in its own unit.
    """

    predicted: dict[str, float]
    measured: dict[str, float]


class Plan(_Data):
    """What each weight is stored as, to keep to a `budget`.

    `step` is the pass that made it. `predicted`, `bounds`, and what the package was `measured` to have, are
    by metric, in its own unit; `fixed` is what comes on top of units. `smallest` is what was made so, damage
    being bounded. `scale` and `power` say how far damages do not add up (`Together`), and `joint` are the
    plans that was learned from: the sum of their units' damages, and what was measured of all together.
    `before` is what came of an earlier plan that this one was corrected by.
    """

    step: str
    budget: tuple[str, ...]
    bounds: dict[str, float]
    predicted: dict[str, float]
    units: tuple[PlannedUnit, ...]
    smallest: Literal["bytes", "seconds"] = "bytes"
    fixed: dict[str, float] = Field(default_factory=dict)
    pareto: tuple[ParetoPoint, ...] = ()
    scale: float = 1.0
    power: float = 1.0
    joint: tuple[tuple[float, float], ...] = ()
    measured: dict[str, float] = Field(default_factory=dict)
    before: Attempt | None = None

    @property
    def forms(self) -> Mapping[str, str]:
        """The form of each weight by name."""
        return {name: unit.form for unit in self.units for name in unit.names}
