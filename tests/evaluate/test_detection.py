"""Objects of detectors, in the forms that they are exported in: equal ones agree, moved boxes are seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt import BadInput
from graphopt.evaluate import head_metrics
from graphopt.evaluate._detection import DetectionHead
from graphopt.evaluate._examples import Example
from graphopt.metrics import Documents, estimate
from tests.evaluate._head_models import DETR, PLAIN, damaged, measured, onnx_package, values

Array = np.ndarray[Any, Any]
MAP = "mean_average_precision"


def images(count: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Images for `DETR`, and corners float[count, 2, 4] and labels [count, 2] of the objects in them.

    The first two of five detections are sure, the third less than that, and two are sure of nothing.
    """
    rng = np.random.default_rng(seed)
    centres, sizes = rng.uniform(0.2, 0.8, (count, 5, 2)), rng.uniform(0.1, 0.3, (count, 5, 2))
    logits = rng.normal(0, 0.3, (count, 5, 3))
    labels = rng.integers(2, size=(count, 2))
    np.put_along_axis(logits[:, :2], labels[..., None], rng.uniform(4, 6, (count, 2, 1)), axis=-1)
    logits[:, 3:, 2] += 5
    pixels = np.concatenate([centres, sizes, logits], -1).astype(np.float32)[:, :, None]
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], -1)[:, :2]
    return pixels, corners.astype(np.float32), labels


def test_a_detector_agrees_with_itself(tmp_path: Path) -> None:
    package = onnx_package(DETR, tmp_path / "whole")
    np.savez(tmp_path / "images.npz", pixel_values=images(20)[0])
    found = measured(package, package, MAP, baseline=package, data=tmp_path / "images.npz")
    (sample,) = found.samples
    assert head_metrics(package) == (MAP,)
    assert estimate(sample.evidence, relative=True).high == 1
    assert values(found) == {MAP: 1.0}


def test_moved_boxes_are_seen(tmp_path: Path) -> None:
    package = onnx_package(DETR, tmp_path / "whole")
    np.savez(tmp_path / "images.npz", pixel_values=images(20)[0])
    bad = damaged(package.path, tmp_path / "bad", "moved", lambda m: m + np.float32(0.03))
    found = measured(bad, package, MAP, baseline=package, data=tmp_path / "images.npz")
    (sample,) = found.samples
    interval = estimate(sample.evidence)
    assert interval.low < interval.value < interval.high < 0.9
    assert estimate(sample.evidence, relative=True).value == interval.value


def test_against_labels(tmp_path: Path) -> None:
    """Both objects are found first; a missing third of each image, filled up in others, is counted missed."""
    package = onnx_package(DETR, tmp_path / "whole")
    pixels, boxes, labels = images(10)
    np.savez(tmp_path / "right.npz", pixel_values=pixels, boxes=boxes, labels=labels)
    own = values(measured(package, package, MAP, data=tmp_path / "right.npz"))
    assert own == {f"{MAP} (labels)": 1.0}
    padded = np.concatenate([boxes, np.full((10, 1, 4), 0.01, np.float32)], 1)
    missed = np.concatenate([labels, np.full((10, 1), -1)], 1)
    np.savez(tmp_path / "padded.npz", pixel_values=pixels, boxes=padded, labels=missed)
    assert values(measured(package, package, MAP, data=tmp_path / "padded.npz"))[f"{MAP} (labels)"] == 1.0
    np.savez(tmp_path / "wrong.npz", pixel_values=pixels, boxes=boxes, labels=1 - labels)
    found = measured(package, package, MAP, data=tmp_path / "wrong.npz")
    assert values(found)[f"{MAP} (labels)"] < 0.2
    ratio = estimate(found.samples[0].evidence, relative=True)
    assert (ratio.value, ratio.low, ratio.high) == (1, 1, 1)  # the reference is as far from them


def test_boxes_scores_and_labels_of_one_image(tmp_path: Path) -> None:
    """Two of three objects are sure; labels that are one too large find none of them."""
    package = onnx_package(PLAIN, tmp_path / "whole")
    rows = [[0, 0, 5, 5, 0.9, 1], [7, 7, 9, 9, 0.8, 2], [1, 1, 3, 3, 0.2, 1]]
    pictures = np.asarray([rows, rows[::-1]], np.float32).reshape(2, 3, 2, 3)
    np.savez(tmp_path / "images.npz", image=pictures)
    found = measured(package, package, MAP, data=tmp_path / "images.npz")
    (sample,) = found.samples
    assert isinstance(sample.evidence, Documents)
    assert len(sample.evidence.values) == 2
    assert values(found) == {MAP: 1.0}
    bad = damaged(package.path, tmp_path / "bad", "added", lambda a: a + 1)
    assert values(measured(bad, package, MAP, data=tmp_path / "images.npz"))[MAP] == 0


def test_nothing_that_the_reference_is_sure_of(tmp_path: Path) -> None:
    package = onnx_package(DETR, tmp_path / "whole")
    pixels = images(3)[0]
    pixels[..., 6] = 20
    np.savez(tmp_path / "images.npz", pixel_values=pixels)
    with pytest.raises(BadInput, match="no image has an object"):
        measured(package, package, MAP, data=tmp_path / "images.npz")


def test_scores_of_logits_by_hand() -> None:
    logits = np.log(np.asarray([[[6.0, 2, 2], [1, 1, 8]]]))
    boxes = np.asarray([[[0.5, 0.5, 0.2, 0.4], [0.5, 0.5, 1, 1]]])
    softmax = DetectionHead("pred_boxes", "logits", None, None)
    found = softmax.answer({"logits": logits, "pred_boxes": boxes}, 0, Example(""))
    assert found.scores == pytest.approx([0.6, 0.1])
    assert found.boxes[0] == pytest.approx([0.4, 0.3, 0.6, 0.7])
    assert found.certain().tolist() == [True, False]
    sigmoid = DetectionHead("pred_boxes", "logits", None, None, sigmoid=True)
    found = sigmoid.answer({"logits": logits, "pred_boxes": boxes}, 0, Example(""))
    assert found.scores == pytest.approx([6 / 7, 8 / 9])
    assert found.labels.tolist() == [0, 2]


def test_only_as_many_as_the_model_counts() -> None:
    head = DetectionHead("detection_boxes", "detection_scores", "detection_classes", "num_detections")
    results = {
        "detection_boxes": np.zeros((2, 3, 4)),
        "detection_scores": np.ones((2, 3)),
        "detection_classes": np.ones((2, 3)),
        "num_detections": np.asarray([1, 2]),
    }
    assert len(head.answer(results, 1, Example("")).scores) == 2
