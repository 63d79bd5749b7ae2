"""Nets that vision.py measures are those that were published; boxes are read from cells as they are meant."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Script = Callable[[str], ModuleType]
PUBLISHED = {"resnet18": 11_689_512, "resnet50": 25_557_032, "mobilenet_v3": 2_542_856}
"""Parameters, as torchvision's models have them."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes_have_their_parameters(name: str, script: Script) -> None:
    net = script("_vision_sources").shape(name)

    assert sum(one.numel() for one in net.parameters()) == PUBLISHED[name]


def test_trained_nets_are_small(script: Script) -> None:
    for name in ("glyphs", "scenes"):
        net = script("_vision_sources").shape(name)
        assert sum(one.numel() for one in net.parameters()) < 1_500_000


def test_a_detector_s_boxes_are_around_its_cells(script: Script) -> None:
    import torch

    net = script("_vision_nets").Yolo(4, 3, 64).eval()
    with torch.inference_mode():
        found = net(torch.zeros(2, 3, 64, 64)).numpy()

    assert found.shape == (2, 8 * 8 + 4 * 4 + 2 * 2, 4 + 3)
    assert (found[..., :2] < net.centers.numpy()).all()
    assert (found[..., 2:4] > net.centers.numpy()).all()
    assert net.centers[1].tolist() == [12.0, 4.0]
    assert ((found[..., 4:] > 0) & (found[..., 4:] < 1)).all()


def cells(*rows: tuple[float, ...]) -> Any:
    return np.array(rows, np.float32)


def test_the_stronger_of_two_boxes_of_a_thing_is_kept(script: Script) -> None:
    output = cells(
        (0, 0, 10, 10, 0.5, 0.0),
        (1, 0, 10, 10, 0.9, 0.0),
        (0, 0, 10, 10, 0.0, 0.7),
        (30, 30, 40, 40, 0.3, 0.0),
        (60, 60, 70, 70, 0.001, 0.0),
    )

    found = script("_boxes").detected(output)

    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.3])
    assert found.labels.tolist() == [0, 1, 0]
    assert found.sure().labels.tolist() == [0, 1]


def test_moved_boxes_are_not_the_source_s_own(script: Script) -> None:
    accuracy, drawn = script("_vision_accuracy"), script("_images")
    source = cells((0, 0, 20, 20, 0.9, 0.0), (40, 40, 60, 60, 0.0, 0.8))[None]
    moved = cells((3, 0, 23, 20, 0.9, 0.0), (40, 40, 60, 60, 0.0, 0.8))[None]
    scene = drawn.Scene(np.zeros((96, 96, 3), np.uint8), source[0, :, :4], np.array([0, 1], np.int64))

    rows = accuracy.boxes_rows({"source fp32": source, "moved": moved}, [scene])

    assert rows[0]["agreement_percent"].value == rows[0]["map_percent"] == 100
    assert rows[1]["agreement_percent"].value == pytest.approx(100 / 3)  # one of three that either has
    assert 50 < rows[1]["own_map_percent"] < 100


def test_agreement_is_with_the_source_and_not_with_the_truth(script: Script) -> None:
    logits = np.eye(4, dtype=np.float32)

    rows = script("_vision_accuracy").labels_rows(
        {"source fp32": logits, "graphopt int8": logits[[0, 1, 3, 3]]}, np.array([0, 0, 3, 3])
    )

    assert [row["top1_percent"].value for row in rows] == [50, 75]
    assert [row["agreement_percent"].value for row in rows] == [100, 75]
    assert (rows[0]["int8_points"].value, rows[0]["int8_points"].low < 0) == (25, True)
    assert "int8_points" not in rows[1]
    assert rows[1]["agreement_percent"].low < 75 < rows[1]["agreement_percent"].high
