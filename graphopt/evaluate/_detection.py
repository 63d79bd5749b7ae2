"""Heads that find objects in images, in the forms that detectors are exported in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.evaluate._example_lines import Kind
from graphopt.evaluate._examples import Example
from graphopt.evaluate._head import Floats, row_of
from graphopt.interface import Arrays, Interface
from graphopt.metrics import DETECTIONS, detection_rows, log_softmax

__all__ = ["DetectionHead", "Objects", "detection_head"]

CONFIDENT = 0.5
"""The score from which on what the reference finds counts as an object that is there: as likely as not."""
_BOXES = ("pred_boxes", "boxes", "detection_boxes")
_SCORES = ("logits", "scores", "detection_scores")
_LABELS = ("labels", "classes", "detection_classes")
_COUNTS = ("num_detections",)
_CENTRED = "pred_boxes"
"""Boxes of DETR and what came after it: centre, width and height, in shares of the image."""
_MAP = "mean_average_precision"


@dataclass(frozen=True)
class Objects:
    """What was found in an image: boxes [D, 4] by corners, labels [D] and scores [D]."""

    boxes: NDArray[Any]
    labels: NDArray[Any]
    scores: NDArray[Any]

    def certain(self) -> NDArray[np.bool_]:
        """Which of them count as there: those as likely as not, of each label as many as can be found."""
        sure: NDArray[np.bool_] = (self.scores >= CONFIDENT) & np.isfinite(self.boxes).all(-1)
        for label in np.unique(self.labels[sure]):
            mine = np.flatnonzero(sure & (self.labels == label))
            sure[mine[np.argsort(-self.scores[mine], kind="stable")][DETECTIONS:]] = False
        return sure


class DetectionHead:
    """Objects in images, from one of two forms of outputs.

    `logits` [batch, D, classes] with `pred_boxes` [batch, D, 4]: a detection's label is its likeliest class.
    Scores are by softmax, whose last class is "no object", or with `sigmoid` each class's own. Or boxes
    [batch, D, 4] with scores [batch, D] and labels [batch, D] or scores [batch, D, classes], as they are.
    The axis of the batch may be missing.
    """

    line: Kind | None = None
    metrics: tuple[str, ...] = (_MAP,)
    of_labels: tuple[str, ...] = (_MAP,)

    def __init__(
        self, boxes: str, scores: str, labels: str | None, count: str | None, *, sigmoid: bool = False
    ) -> None:
        self._boxes, self._scores, self._labels, self._count = boxes, scores, labels, count
        self._sigmoid = sigmoid
        self.outputs = tuple(name for name in (boxes, scores, labels, count) if name is not None)

    def answer(self, results: Arrays, row: int, example: Example) -> Objects:
        boxes = row_of(results, self._boxes, row, 2)
        if self._boxes == _CENTRED:
            centre, half = boxes[..., :2], boxes[..., 2:] / 2
            boxes = np.concatenate([centre - half, centre + half], axis=-1)
        batched = results[self._boxes].ndim > 2
        scores = results[self._scores][row] if batched else results[self._scores]
        if self._labels is not None:
            labels = results[self._labels][row] if batched else results[self._labels]
        else:
            scores = self._probabilities(scores)
            labels, scores = scores.argmax(-1), scores.max(-1)
        if self._count is not None:
            there = int(np.ravel(results[self._count])[row])
            boxes, labels, scores = boxes[:there], labels[:there], scores[:there]
        return Objects(boxes, labels, scores)

    def _probabilities(self, scores: NDArray[Any]) -> NDArray[Any]:
        if self._scores != "logits":
            return scores
        if self._sigmoid:
            return np.exp(-np.logaddexp(0, -scores.astype(np.float64)))
        return np.exp(log_softmax(scores))[..., :-1]

    def agreement(self, expected: Objects, got: Objects) -> dict[str, Floats]:
        sure = expected.certain()
        return {
            _MAP: detection_rows(
                got.boxes, got.labels, got.scores, expected.boxes[sure], expected.labels[sure]
            )
        }

    def right(self, answer: Objects, example: Example) -> dict[str, Floats]:
        assert example.labels is not None
        assert example.boxes is not None
        there = example.labels >= 0
        return {
            _MAP: detection_rows(
                answer.boxes, answer.labels, answer.scores, example.boxes[there], example.labels[there]
            )
        }


def detection_head(interface: Interface, config: Mapping[str, Any]) -> DetectionHead | None:
    """The head of a model whose outputs are named as detectors' are; None for any other.

    Logits have a class "no object" unless `config` says that there are as many classes as logits.
    """

    def first(names: tuple[str, ...]) -> str | None:
        return next((name for name in names if interface.output(name) is not None), None)

    boxes, scores, labels = first(_BOXES), first(_SCORES), first(_LABELS)
    if boxes is None or scores is None:
        return None
    spec = interface.output(scores)
    assert spec is not None
    if scores == "logits":
        sigmoid = spec.dims[-1:] == (len(config.get("id2label") or ()),)
        return DetectionHead(boxes, scores, None, None, sigmoid=sigmoid)
    return DetectionHead(boxes, scores, labels, first(_COUNTS))
