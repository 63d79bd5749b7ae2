"""The closing check's comparisons, ordered by how near each is to its bound."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.metrics import METRICS
from graphopt.report._model import MetricReport

__all__ = ["kind_of", "strain", "worst"]


def strain(one: MetricReport) -> float:
    """How near its bound it is, see `graphopt.metrics.Metric.strain`."""
    return METRICS[one.metric].strain(one.value, one.bound)


def kind_of(output: str) -> str:
    """The output; of all caches one name."""
    return "present" if output.startswith("present") else output


def worst(metrics: Sequence[MetricReport], *, by_case: bool = False) -> list[MetricReport]:
    """For each output and metric (and case) the one nearest to its bound or furthest beyond; caches are one
    output."""
    found: dict[tuple[str, str, str], MetricReport] = {}
    for one in metrics:
        key = (kind_of(one.output), one.metric, one.case if by_case else "")
        if key not in found or strain(one) > strain(found[key]):
            found[key] = one
    return list(found.values())
