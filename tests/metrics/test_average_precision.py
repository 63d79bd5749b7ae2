"""Mean average precision: by hand, as COCO's own tool counts it, and of collections with images twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.metrics import (
    Documents,
    average_precisions,
    box_overlap,
    detection_rows,
    estimate,
    infer,
    mean_average_precision,
)

Array = np.ndarray[Any, Any]
BOX = np.asarray([0.0, 0.0, 10.0, 10.0])


def image(found: list[tuple[Array, int, float]], there: list[tuple[Array, int]]) -> Array:
    return detection_rows(
        np.asarray([box for box, _, _ in found]).reshape(-1, 4),
        np.asarray([label for _, label, _ in found], int),
        np.asarray([score for _, _, score in found]),
        np.asarray([box for box, _ in there]).reshape(-1, 4),
        np.asarray([label for _, label in there], int),
    )


def shifted(by: float) -> Array:
    """A box of the same size that much further right; its overlap with `BOX` is (10 - by) / (10 + by)."""
    return BOX + np.asarray([by, 0, by, 0])


def drawn(rng: np.random.Generator) -> tuple[list[tuple[Array, int, float]], list[tuple[Array, int]]]:
    def box() -> Array:
        corner, size = rng.uniform(0, 50, 2), rng.uniform(15, 30, 2)
        return np.concatenate([corner, corner + size])

    there = [(box(), int(rng.integers(3))) for _ in range(rng.integers(1, 7))]
    near = [(b + rng.normal(0, 1.5, 4), c, float(rng.random())) for b, c in there if rng.random() < 0.8]
    return near + [(box(), int(rng.integers(3)), float(rng.random())) for _ in range(4)], there


def test_overlap_by_hand() -> None:
    others = np.asarray([BOX, shifted(5), shifted(10), [2.0, 2.0, 4.0, 4.0], [3.0, 3.0, 3.0, 9.0]])
    assert box_overlap(BOX[None], others)[0] == pytest.approx([1, 1 / 3, 0, 0.04, 0])


def test_what_is_found_exactly_is_worth_one() -> None:
    there = [(BOX, 0), (shifted(20), 0), (BOX, 1)]
    found = [(box, label, 0.9) for box, label in there]
    assert mean_average_precision([image(found, there)]) == 1.0


@pytest.mark.parametrize(("by", "value"), [(1.0, 0.7), (3.0, 0.1), (4.0, 0.0)])
def test_a_moved_box_counts_at_the_overlaps_that_it_has(by: float, value: float) -> None:
    """Overlaps 9/11 = 0.818, 7/13 = 0.538 and 6/14 = 0.43 of the ten from 0.5 to 0.95."""
    assert mean_average_precision([image([(shifted(by), 0, 0.5)], [(BOX, 0)])]) == pytest.approx(value)


def test_a_wrong_detection_before_the_right_one_halves_precision() -> None:
    found = [(shifted(30), 0, 0.9), (BOX, 0, 0.8)]
    assert mean_average_precision([image(found, [(BOX, 0)])]) == pytest.approx(0.5)
    later = [(shifted(30), 0, 0.7), (BOX, 0, 0.8)]
    assert mean_average_precision([image(later, [(BOX, 0)])]) == 1.0


def test_one_of_two_objects_is_found() -> None:
    """Precision 1 up to a recall of 0.5: 51 of 101 points."""
    assert mean_average_precision([image([(BOX, 0, 0.5)], [(BOX, 0), (shifted(30), 0)])]) == pytest.approx(
        51 / 101
    )


def test_an_object_is_found_once() -> None:
    """The second finding of the one object is wrong, and the other object is missed."""
    found = [(BOX, 0, 0.9), (BOX, 0, 0.8), (shifted(30), 0, 0.7)]
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert mean_average_precision([image(found, [(BOX, 0), (shifted(30), 0)])]) == pytest.approx(expected)


def test_categories_count_alike_and_another_label_finds_nothing() -> None:
    found = [(BOX, 0, 0.9), (shifted(30), 2, 0.9)]
    assert mean_average_precision([image(found, [(BOX, 0), (shifted(30), 1)])]) == pytest.approx(0.5)


# pycocotools 2.0.11 (COCOeval, "bbox", stats[0]) on the same eight images.
@pytest.mark.parametrize(
    ("seed", "value"), [(0, 0.23183299772554283), (1, 0.3469574470460348), (2, 0.322016414095622)]
)
def test_it_is_what_the_tool_of_coco_counts(seed: int, value: float) -> None:
    rng = np.random.default_rng(seed)
    assert mean_average_precision([image(*drawn(rng)) for _ in range(8)]) == pytest.approx(value, rel=1e-12)


def test_nothing_there_is_no_number_and_nothing_found_is_zero() -> None:
    assert np.isnan(mean_average_precision([image([(BOX, 0, 0.9)], [])]))
    assert mean_average_precision([image([], [(BOX, 0)])]) == 0.0


def test_boxes_that_are_not_finite_find_nothing() -> None:
    found = [(BOX * np.nan, 0, 0.9), (BOX, 0, np.nan)]
    assert mean_average_precision([image(found, [(BOX, 0)])]) == 0.0


def test_an_image_that_is_drawn_twice_is_there_twice() -> None:
    rng = np.random.default_rng(0)
    images = [image(*drawn(rng)) for _ in range(6)]
    weights = rng.multinomial(6, [1 / 6] * 6, size=20).astype(np.float64)
    expected = [
        mean_average_precision([images[i] for i in np.repeat(np.arange(6), row.astype(int))])
        for row in weights
    ]
    assert average_precisions(images, weights) == pytest.approx(expected)


def test_parts_of_the_draws_are_worked_through_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphopt.metrics import _average_precision

    rng = np.random.default_rng(1)
    images = [image(*drawn(rng)) for _ in range(4)]
    weights = rng.multinomial(4, [1 / 4] * 4, size=9).astype(np.float64)
    whole = average_precisions(images, weights)
    monkeypatch.setattr(_average_precision, "_AT_ONCE", 1)
    assert (average_precisions(images, weights) == whole).all()


def test_evidence_of_images_is_resampled_by_image() -> None:
    rng = np.random.default_rng(2)
    images = tuple(image(*drawn(rng)) for _ in range(12))
    found = estimate(Documents(images, statistic="average_precision"))
    assert found.value == mean_average_precision(images)
    assert 0 < found.low < found.value < found.high < 1

    moved = [drawn(np.random.default_rng(seed)) for seed in range(12)]
    perfect = [image([(box, label, 0.9) for box, label in there], there) for _, there in moved]
    worse = tuple(image(*pair) for pair in moved)
    ratio = infer(Documents(worse, tuple(perfect), "average_precision"), relative=True)
    assert ratio.value == pytest.approx(mean_average_precision(worse))
    assert ratio.p_below(0.95) < 0.01


def test_equal_images_are_known_to_be_equal() -> None:
    images = tuple(image(*drawn(np.random.default_rng(seed))) for seed in range(5))
    found = estimate(Documents(images, images, "average_precision"), relative=True)
    assert (found.value, found.low, found.high) == (1, 1, 1)
