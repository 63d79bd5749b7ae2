"""A plan as it is recorded: in a lock, and in a report."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PLAN", "ParetoPoint", "Plan", "PlannedUnit"]

PLAN = "plan"
"""The decision of a context that holds a `Plan`, as data."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlannedUnit(_Data):
    """Weights, the form that they are stored in, and why it is that one.

    `bytes` are what they take, `damage` the KL divergence that they make alone, in nats a token. `others` are
    damage and bytes of every form that was weighed.
    """

    names: tuple[str, ...]
    entries: int
    form: str
    bytes: int
    damage: float
    reason: str
    others: dict[str, tuple[float, int]] = Field(default_factory=dict)


class ParetoPoint(_Data):
    """The least predicted `kl_mean` at so many bits a weight, and how many weights have each form there."""

    bpw: float
    bytes: int
    kl_mean: float
    forms: dict[str, int]


class Plan(_Data):
    """What each weight is stored as, to keep to a `budget`.

    `step` is the pass that made it. `aims` are the budget's bounds by metric as they were planned for: not
    the bounds themselves where an earlier plan was measured and predictions proved to be off. `predicted` and
    `bounds` are by metric, in its own unit. `scale` and `power` say how far damages do not add up
    (`Together`), and `joint` are the plans that was learned from: the sum of their units' damages, and what
    was measured of all together.
    """

    step: str
    budget: tuple[str, ...]
    bounds: dict[str, float]
    aims: dict[str, float]
    predicted: dict[str, float]
    units: tuple[PlannedUnit, ...]
    pareto: tuple[ParetoPoint, ...] = ()
    scale: float = 1.0
    power: float = 1.0
    joint: tuple[tuple[float, float], ...] = ()

    @property
    def forms(self) -> Mapping[str, str]:
        """The form of each weight by name."""
        return {name: unit.form for unit in self.units for name in unit.names}
