"""Pictures that a seed draws are the same each time, and have on them what they are said to have."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from graphopt.metrics import box_overlap

Script = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def drawn(script: Script) -> Any:
    return script("_images")


def test_a_picture_is_its_seed_s_and_number_s_alone(drawn: Any) -> None:
    three, labels = drawn.images(5, 3)
    alone, label = drawn.image(5, 2)

    assert (three.shape, three.dtype) == ((3, 48, 48, 3), np.uint8)
    assert np.array_equal(three[2], alone)
    assert labels[2] == label
    assert not np.array_equal(alone, drawn.image(6, 2)[0])
    assert np.array_equal(drawn.scene(5, 2).pixels, drawn.scene(5, 2).pixels)


def test_things_cover_a_part_of_a_picture_and_none_is_another(drawn: Any) -> None:
    masks = {
        name: drawn._outline(name, 48, 18.0, np.array([24.0, 24.0]), np.random.default_rng(0))
        for name in drawn.OUTLINES
    }
    masks |= {name: draw(48, np.random.default_rng(0)) for name, draw in drawn.TEXTURES.items()}

    assert list(masks) == list(drawn.CLASSES)
    assert len(masks) >= 20
    for name, mask in masks.items():
        assert 0.03 < mask.mean() < 0.95, name
        assert mask.min() >= 0
        assert mask.max() <= 1
    found = list(masks.values())
    assert min(np.abs(a - b).mean() for i, a in enumerate(found) for b in found[:i]) > 0.003


def test_things_of_a_scene_are_in_their_boxes_and_apart(drawn: Any) -> None:
    scenes = [drawn.scene(1, number) for number in range(12)]

    assert {len(one.labels) for one in scenes} > {1, 2}
    for one in scenes:
        assert 1 <= len(one.labels) == len(one.boxes) <= drawn.MOST
        assert (one.labels < len(drawn.THINGS)).all()
        assert (one.boxes >= 0).all()
        assert (one.boxes <= drawn.SCENE).all()
        assert (one.boxes[:, 2:] - one.boxes[:, :2] >= 8).all()
        assert np.array_equal(box_overlap(one.boxes, one.boxes) > 0, np.eye(len(one.boxes), dtype=bool))


def test_nets_read_pictures_around_zero(drawn: Any) -> None:
    planar = drawn.planar(np.full((2, 4, 6, 3), 192, np.uint8))

    assert (planar.shape, planar.dtype) == ((2, 3, 4, 6), np.float32)
    assert (planar == 1).all()
