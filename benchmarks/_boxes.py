"""Boxes of a detector: what is kept of its cells, and how well they are those that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.metrics import box_overlap, detection_rows, mean_average_precision

Array = np.ndarray[Any, Any]

FAINT = 0.02
"""Scores below it are nothing: they could only add to the tail of a curve."""
SURE = 0.4
"""Scores from which a box is one that the detector stands by."""
_SAME = 0.6
"""Overlap from which two boxes of a label are of one thing."""


@dataclass(frozen=True)
class Boxes:
    """`boxes` float32[N, 4], (left, top, right, bottom) in pixels; `labels` int64[N]; `scores` float32[N]."""

    boxes: Array
    labels: Array
    scores: Array

    def sure(self) -> Boxes:
        keep = self.scores >= SURE
        return Boxes(self.boxes[keep], self.labels[keep], self.scores[keep])


def detected(output: Array) -> Boxes:
    """What is left of one picture's cells, float32[cells, 4 + classes], strongest first: a box that
    overlaps a stronger one of its label is of the same thing."""
    labels, scores = output[:, 4:].argmax(1), output[:, 4:].max(1)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= FAINT]
    boxes, labels, scores = output[order, :4], labels[order], scores[order]
    same = (box_overlap(boxes, boxes) > _SAME) & (labels[:, None] == labels[None])
    kept: list[int] = []
    for at in range(len(order)):
        if not same[at, kept].any():
            kept.append(at)
    return Boxes(boxes[kept], labels[kept], scores[kept])


def mean_precision(found: Sequence[Boxes], wanted: Sequence[Boxes]) -> float:
    """COCO's mean average precision of what was found, picture by picture."""
    pairs = zip(found, wanted, strict=True)
    return mean_average_precision(
        [detection_rows(a.boxes, a.labels, a.scores, b.boxes, b.labels) for a, b in pairs]
    )
