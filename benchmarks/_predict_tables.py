"""How far off predictions are, in tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from _predicting import Point, Told, held, off
from _provenance import here
from _results import Row, Table
from scipy.stats import spearmanr

from graphopt.machine import Interval
from graphopt.metrics import Estimate


def estimate(interval: Interval, scale: float = 1.0) -> Estimate:
    return Estimate(interval.value * scale, interval.low * scale, interval.high * scale)


def point_tables(found: Sequence[Told]) -> Iterator[Table]:
    for shape in dict.fromkeys(one.point["shape"] for one in found):
        for metric in ("tpot", "ttft"):
            rows: list[Row] = [
                {
                    "point": one.name,
                    "predicted_ms": estimate(one.predicted, 1e3),
                    "measured_ms": 1e3 * one.measured,
                    "off_percent": one.error,
                    "held": held(one.predicted, one.measured),
                    "stored_off_percent": off(one.stored, one.measured),
                    "left_out_off_percent": off(one.left_out, one.measured),
                    "memory_gbs": one.point["bandwidth" if metric == "tpot" else "bandwidth_prompt"] / 1e9,
                }
                for one in found
                if (one.point["shape"], one.metric) == (shape, metric)
            ]
            whose = "the interval that nine of ten measurements are expected in"
            yield Table(
                name="points",
                cell={"shape": shape, "metric": metric},
                key="point",
                interval=whose,
                rows=rows,
                **here(),
            )


def summary(found: Sequence[Told], cheap: Sequence[tuple[Point, Interval]]) -> Table:
    """Median error and how many of the intervals held, of metrics, shapes and kinds of cheap points."""
    rows: list[Row] = []

    def row(what: str, pairs: Sequence[tuple[Interval, float]]) -> None:
        if pairs:
            errors = [abs(off(*pair)) for pair in pairs]
            one: Row = {"what": what, "points": len(pairs), "median_error_percent": float(np.median(errors))}
            rows.append(one | {"coverage_percent": 100 * float(np.mean([held(*pair) for pair in pairs]))})

    for metric in ("tpot", "ttft"):
        ours = [one for one in found if one.metric == metric]
        row(metric, [(one.predicted, one.measured) for one in ours])
        row(f"{metric}, from the stored profile alone", [(one.stored, one.measured) for one in ours])
        row(f"{metric}, without sizes of the shape", [(one.left_out, one.measured) for one in ours])
        for shape in dict.fromkeys(one.point["shape"] for one in ours):
            these = [one for one in ours if one.point["shape"] == shape]
            row(f"{metric}, {shape}", [(one.predicted, one.measured) for one in these])
    small = [(interval, point["seconds"], point["kind"]) for point, interval in cheap]
    for kind in ("product", "attention"):
        row(f"cheap points: {kind}s", [(i, seconds) for i, seconds, one in small if one == kind])
    every = [(interval, seconds) for interval, seconds, _ in small]
    row("all points", every + [(one.predicted, one.measured) for one in found])
    return Table(name="summary", key="what", rows=rows, **here())


def ranking(found: Sequence[Told], shape: str) -> Table | None:
    """Plans of one model by the time of a token, predicted and measured."""

    def asked(one: Told) -> bool:
        point = one.point
        return one.metric == "tpot" and (point["shape"], point["batch"], point["prompt"]) == (shape, 1, 256)

    ours = [one for one in found if asked(one)]
    if len(ours) < 2:
        return None
    groups = {"plans": ours}
    for threads in sorted({one.point["threads"] for one in ours}):
        groups[f"plans of {threads} threads"] = [one for one in ours if one.point["threads"] == threads]
    rows: list[Row] = []
    for name, them in groups.items():
        measured = [one.measured for one in them]
        for how, what in (("predicted", name), ("stored", f"{name}, from the stored profile alone")):
            said = [getattr(one, how).value for one in them]
            order = sorted(range(len(them)), key=lambda i: said[i])
            row: Row = {"what": what, "plans": len(them)}
            row["rank_correlation"] = float(spearmanr(said, measured)[0])
            rows.append(row | {"place_of_the_fastest": order.index(int(np.argmin(measured))) + 1})
    return Table(name="ranking", cell={"shape": shape, "prompt": 256}, key="what", rows=rows, **here())
