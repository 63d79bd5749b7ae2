"""What the profile of a machine says of a package, in report.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from graphopt.machine import Interval, Profile

if TYPE_CHECKING:
    from graphopt.cost import Bound, History, Prediction, Situation

__all__ = ["BoundReport", "HistoryReport", "PredictionReport"]

_COUNTED = ("package_bytes", "weight_bytes")


class BoundReport(BaseModel):
    """A class of operators: seconds with their interval, what it reads and computes, and its bound.

    `by` is "memory" or "compute", `floor` the seconds that the bound alone would take.
    """

    operators: str
    seconds: Interval
    bytes: float
    flops: float
    by: str
    floor: float


class HistoryReport(BaseModel):
    """How far off earlier predictions of a metric were on this machine, and how many intervals held."""

    metric: str
    count: int
    median_error: float
    coverage: float


class PredictionReport(BaseModel):
    """See `graphopt.cost.Prediction`: of a text with a `prompt` and `new` tokens, on so many `threads`.

    `step` is a token in the middle of those that are written, `reading` the prompt; the dearest come first.
    """

    profile: str
    prompt: int
    new: int
    threads: int
    metrics: dict[str, Interval] = Field(default_factory=dict)
    step: list[BoundReport] = Field(default_factory=list)
    reading: list[BoundReport] = Field(default_factory=list)
    history: list[HistoryReport] = Field(default_factory=list)
    damaged: int = 0
    widened: list[str] = Field(default_factory=list)
    unknown: list[str] = Field(default_factory=list)

    @classmethod
    def of(
        cls, found: Prediction, profile: Profile, situation: Situation, history: History
    ) -> PredictionReport:
        """The report of a prediction, but of sizes: those of the package are counted."""
        return cls(
            profile=f"{profile.name}, {profile.kind} {profile.date}",
            prompt=situation.prompt,
            new=situation.new,
            threads=situation.threads,
            metrics={key: told for key, told in found.metrics.items() if key not in _COUNTED},
            step=_parts(found.step),
            reading=_parts(found.prompt),
            history=[HistoryReport(metric=metric, **vars(one)) for metric, one in history.metrics.items()],
            damaged=history.damaged,
            widened=list(found.widened),
            unknown=list(found.unknown),
        )


def _parts(parts: Mapping[str, Bound]) -> list[BoundReport]:
    dearest = sorted(parts.items(), key=lambda part: -part[1].seconds.value)
    return [BoundReport(operators=name, **vars(bound)) for name, bound in dearest]
