"""Mean average precision of detected objects, as COCO counts it (Lin et al. 2014; its mAP@[.5:.95]).

Which detection finds which object is decided within an image and does not depend on other images, so an image
becomes rows of numbers, and any collection of images, a bootstrap's draw too, is the rows of its images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DETECTIONS", "average_precisions", "box_overlap", "detection_rows", "mean_average_precision"]

Floats = NDArray[np.float64]

_OVERLAPS = np.linspace(0.5, 0.95, 10)
"""Intersections over unions from which on a box is found: COCO's ten."""
DETECTIONS = 100
"""Of a category in an image, the likeliest: COCO's maxDets."""
_RECALLS = 100
"""Precision is read at recalls of 0, 0.01, ..., 1: COCO's 101 points."""
_WIDTH = 3 + len(_OVERLAPS)
_AT_ONCE = 1 << 22
"""Entries of draws times detections that are worked through together: 32 MiB of float64."""


def box_overlap(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """Intersection over union float64[A, B] of boxes [A, 4] and [B, 4] (corners x1, y1, x2, y2, any unit)."""
    a, b = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    inner = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clip(min=0).prod(-1) for box in (a, b)]
    union = areas[0] + areas[1] - inner
    overlap: Floats = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return overlap


def detection_rows(
    boxes: NDArray[Any],
    labels: NDArray[Any],
    scores: NDArray[Any],
    true_boxes: NDArray[Any],
    true_labels: NDArray[Any],
) -> Floats:
    """One image as rows of 13 numbers, one after the other, float64[13 * rows].

    `boxes` [D, 4] are detected with `labels` [D] and `scores` [D]; `true_boxes` [T, 4] with `true_labels` [T]
    are what there is. An object's row is 1, its label and zeros. A detection's is 0, its label, its score and
    whether it finds an object at an overlap of 0.5, 0.55, ..., 0.95: the likeliest first, each takes the
    object of its label that it overlaps most and that none has taken. Detections that are not finite find
    nothing, with the lowest score that there is.
    """
    lowest = np.finfo(np.float64).min
    bad = ~(np.isfinite(scores) & np.isfinite(boxes).all(-1))
    scores = np.where(bad, lowest, scores).astype(np.float64)
    boxes = np.where(bad[:, None], 0, boxes)
    rows = [np.asarray([1, label, *[0] * (_WIDTH - 2)], np.float64) for label in true_labels]
    for label in np.unique(labels):
        chosen = np.flatnonzero(labels == label)
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:DETECTIONS]
        found = _found(box_overlap(boxes[chosen], true_boxes[true_labels == label]))
        rows += [np.asarray([0, label, scores[i], *hits]) for i, hits in zip(chosen, found, strict=True)]
    return np.concatenate(rows) if rows else np.zeros(0)


def _found(overlap: Floats) -> Floats:
    """Whether each of the D detections, in order, finds an object, float64[D, 10], by `overlap` [D, T]."""
    found = np.zeros((len(overlap), len(_OVERLAPS)))
    for column, least in enumerate(_OVERLAPS):
        free = np.ones(overlap.shape[1], bool)
        for row, own in enumerate(overlap):
            open_to = np.where(free, own, -1.0)
            if open_to.max(initial=-1.0) >= least:
                free[open_to.argmax()] = False
                found[row, column] = 1
    return found


def mean_average_precision(images: Sequence[Floats]) -> float:
    """COCO's mAP@[.5:.95] of `images`, each as `detection_rows` has it; NaN where no image has an object."""
    return float(average_precisions(images, np.ones((1, len(images))))[0])


def average_precisions(images: Sequence[Floats], weights: Floats) -> Floats:
    """The same of collections in which each of `images` is `weights` [draws, images] times, float64[draws].

    The mean over overlaps and over the categories of which a collection has an object.
    """
    rows = np.concatenate(images).reshape(-1, _WIDTH)
    owner = np.repeat(np.arange(len(images)), [image.size // _WIDTH for image in images])
    total, categories = np.zeros(len(weights)), np.zeros(len(weights))
    for label in np.unique(rows[rows[:, 0] == 1, 1]):
        mine = rows[:, 1] == label
        objects = weights @ np.bincount(owner[mine & (rows[:, 0] == 1)], minlength=len(images))
        detected = np.flatnonzero(mine & (rows[:, 0] == 0))
        detected = detected[np.argsort(-rows[detected, 2], kind="stable")]
        there = objects > 0
        categories += there
        if len(detected):
            for part in _parts(len(weights), len(detected)):
                each = weights[part][:, owner[detected]]
                total[part] += np.where(
                    there[part], _precision(each, rows[detected, 3:], objects[part].clip(min=1)), 0
                )
    mean: Floats = np.divide(total, categories, out=np.full(len(weights), np.nan), where=categories > 0)
    return mean


def _parts(draws: int, detections: int) -> Iterator[slice]:
    step = max(1, _AT_ONCE // detections)
    return (slice(start, start + step) for start in range(0, draws, step))


def _precision(weights: Floats, found: Floats, objects: Floats) -> Floats:
    """Average precision over overlaps, float64[draws], of one category's detections in descending score.

    `weights` [draws, D] is how often each is there, `found` [D, 10] whether it finds an object, of which
    there are `objects` [draws]. At each recall the precision is the best at that recall or a higher one.
    """
    right_ones = found.any(1)  # precision is highest, and recall grows, at these alone
    count, weights = weights.cumsum(1)[:, right_ones], weights[:, right_ones]
    total: Floats = np.zeros(len(weights))
    for hits in found[right_ones].T:
        right = (weights * hits).cumsum(1)
        precision = np.divide(right, count, out=np.zeros_like(right), where=count > 0)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.floor_divide(_RECALLS * right, objects[:, None]) + 1
        total += (np.diff(reached, axis=1, prepend=0) * best).sum(1)
    total /= len(_OVERLAPS) * (_RECALLS + 1)
    return total
