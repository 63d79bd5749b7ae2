"""Classes of pixels and letters of speech: how far two answers are from each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.evaluate import head_metrics
from graphopt.evaluate._examples import Example
from graphopt.evaluate._sequences import CtcHead, edits, mean_iou, words
from graphopt.package import RunnablePackage
from tests.evaluate._head_models import damaged, measured, onnx_package, values

PIXELS = """
<ir_version: 10, opset_import: ["" : 21]>
segmenter (float[batch, 3, 4, 4] pixel_values) => (float[batch, 3, 4, 4] logits)
<float[1, 3, 1, 1] bias = {0, 0, 0}> { logits = Add (pixel_values, bias) }
"""
SPEECH = """
<ir_version: 10, opset_import: ["" : 21]>
speech (float[batch, 60] input_values) => (float[batch, 12, 5] logits)
<int64[3] shape = {0, 12, 5}, float[5] bias = {0, 0, 0, 0, 0}>
{ moments = Reshape (input_values, shape)  logits = Add (moments, bias) }
"""


def _distance(a: list[int], b: list[int]) -> int:
    """Levenshtein's, by its definition."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return _distance(a[1:], b[1:])
    return 1 + min(_distance(a[1:], b), _distance(a, b[1:]), _distance(a[1:], b[1:]))


LETTERS = st.lists(st.integers(0, 2), max_size=6)


@given(LETTERS, LETTERS)
def test_edits_are_levenshteins(a: list[int], b: list[int]) -> None:
    assert edits(np.asarray(a, np.int64), np.asarray(b, np.int64)) == _distance(a, b)


def test_iou_is_of_the_classes_that_the_reference_gives() -> None:
    expected = np.asarray([[0, 0], [1, 1]])
    assert mean_iou(expected, expected) == 1
    assert mean_iou(expected, np.asarray([[0, 0], [0, 1]])) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert mean_iou(expected, np.asarray([[0, 0], [2, 1]])) == pytest.approx((1 + 1 / 2) / 2)
    assert mean_iou(expected, expected[:1]) == 0
    assert mean_iou(expected, np.full((2, 2), -1)) == 0


def test_letters_in_a_row_are_one_and_blanks_part_them() -> None:
    moments = [0, 1, 1, 0, 1, 2, 2, 0]
    answer = CtcHead("logits", 0).answer({"logits": np.eye(3)[moments][None]}, 0, Example(""))
    assert answer.tolist() == [1, 1, 2]


def test_words_lie_between_gaps() -> None:
    assert words(np.asarray([9, 1, 2, 9, 9, 3, 9]), 9) == [(1, 2), (3,)]
    assert words(np.asarray([9, 9]), 9) == []


def test_of_three_words_one_is_wrong_however_many_letters_it_has(tmp_path: Path) -> None:
    package = onnx_package(SPEECH, tmp_path / "model").path
    (package / "vocab.json").write_text('{"<pad>": 0, "a": 1, "b": 2, "|": 3, "c": 4}')
    assert head_metrics(RunnablePackage.load(package)) == ("character_error_rate", "word_error_rate")
    head = CtcHead("logits", 0, 3)
    found = head.agreement(np.asarray([1, 2, 3, 1, 3, 4, 1, 2]), np.asarray([1, 2, 3, 1, 3, 4, 2, 1, 1]))
    assert found["word_error_rate"] == pytest.approx(1 / 3)
    assert found["character_error_rate"] == pytest.approx(2 / 8)
    assert head.agreement(np.asarray([1]), np.asarray([3]))["word_error_rate"] == 1


@pytest.mark.parametrize(
    ("text", "metric", "same"), [(PIXELS, "mean_iou", 1.0), (SPEECH, "character_error_rate", 0.0)]
)
def test_a_package_agrees_with_itself_and_not_with_a_damaged_one(
    text: str, metric: str, same: float, tmp_path: Path
) -> None:
    package = RunnablePackage.load(onnx_package(text, tmp_path / "model").path)
    assert head_metrics(package) == (metric,)
    assert values(measured(package, package, metric)) == {metric: same}

    def moved(bias: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return bias + np.linspace(0, 2, bias.size, dtype=np.float32).reshape(bias.shape)

    worse = damaged(package.path, tmp_path / "worse", "bias", moved)
    found = values(measured(worse, package, metric))[metric]
    assert abs(found - same) > 0.1
