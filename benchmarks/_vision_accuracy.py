"""How right trained nets are, and how often they say what their source says in fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from _boxes import Boxes, detected, mean_precision
from _images import Scene
from _results import Row
from _vision_recipes import INT8, SOURCE
from scipy import stats

from graphopt.metrics import Estimate, box_overlap

Array = np.ndarray[Any, Any]
_SAME = 0.9
"""Overlap from which a box is the source's own, moved by less than a twentieth of its side."""


def percent(right: Array) -> Estimate:
    """How many of them are, with Wilson's interval."""
    found = stats.binomtest(int(np.sum(right)), len(right))
    ends = found.proportion_ci(method="wilson")
    return Estimate(*(100 * float(one) for one in (np.mean(right), ends.low, ends.high)))


def points(ours: Array, theirs: Array) -> Estimate:
    """How many more of a hundred we have right, picture by picture; the interval is that of a mean's."""
    more = 100 * (ours.astype(float) - theirs)
    value, away = float(more.mean()), float(1.96 * more.std() / np.sqrt(len(more)))
    return Estimate(value, value - away, value + away)


def labels_rows(outputs: Mapping[str, Array], labels: Array) -> list[Row]:
    """By peer: logits [N, classes] against true `labels` [N], and against the source's; and how many points
    of top-1 graphopt's int8 has more."""
    found = {name: logits.argmax(1) for name, logits in outputs.items()}
    rows: list[Row] = []
    for name, said in found.items():
        row: Row = {"peer": name, "top1_percent": percent(said == labels)}
        row["agreement_percent"] = percent(said == found[SOURCE.name])
        if INT8.name in found and name != INT8.name:
            row["int8_points"] = points(found[INT8.name] == labels, said == labels)
        rows.append(row)
    return rows


def boxes_rows(outputs: Mapping[str, Array], scenes: Sequence[Scene]) -> list[Row]:
    """By peer: cells [N, cells, 4 + classes] against what was drawn, and against the source's own boxes."""
    drawn = [Boxes(one.boxes, one.labels, np.ones(len(one.labels))) for one in scenes]
    source = [detected(one).sure() for one in outputs[SOURCE.name]]
    rows: list[Row] = []
    for name, cells in outputs.items():
        found = [detected(one) for one in cells]
        row: Row = {"peer": name, "map_percent": 100 * mean_precision(found, drawn)}
        row["own_map_percent"] = 100 * mean_precision(found, source)
        pairs = zip(found, source, strict=True)
        row["agreement_percent"] = percent(np.concatenate([_there(a.sure(), b) for a, b in pairs]))
        rows.append(row)
    return rows


def _there(found: Boxes, wanted: Boxes) -> Array:
    """Of each box that is in either: whether it is in both, [all boxes of the two, the shared ones once]."""
    near = (box_overlap(found.boxes, wanted.boxes) >= _SAME) & (found.labels[:, None] == wanted.labels[None])
    shared = int(near.any(0).sum())
    return np.arange(len(found.labels) + len(wanted.labels) - shared) < shared
