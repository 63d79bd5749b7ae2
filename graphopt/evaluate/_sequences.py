"""Heads that give a label to each of many places: pixels, and moments of speech."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.evaluate._example_lines import Kind
from graphopt.evaluate._examples import Example
from graphopt.evaluate._head import Floats, row_of
from graphopt.interface import Arrays

__all__ = ["CtcHead", "PixelHead", "edits", "mean_iou"]

_NOTHING = -1
"""The label of a place that is not finite: it agrees with no other."""


class PixelHead:
    """Classes of pixels, from `output` [batch, classes, rows, columns]: the likeliest of each."""

    line: Kind | None = None
    metrics: tuple[str, ...] = ("mean_iou",)
    of_labels: tuple[str, ...] = ()

    def __init__(self, output: str) -> None:
        self.outputs: tuple[str, ...] = (output,)

    def answer(self, results: Arrays, row: int, example: Example) -> NDArray[np.int64]:
        return _likeliest(row_of(results, self.outputs[0], row, 3), axis=0)

    def agreement(self, expected: NDArray[Any], got: NDArray[Any]) -> dict[str, Floats]:
        return {"mean_iou": np.asarray([mean_iou(expected, got)])}

    def right(self, answer: NDArray[Any], example: Example) -> dict[str, Floats]:
        return {}


class CtcHead:
    """Letters of speech, from `output` [batch, moments, letters]: the likeliest of each moment, of the same
    ones in a row one, and no `blank` (greedy decoding, Graves et al. 2006). Words lie between `gap`s."""

    line: Kind | None = None
    of_labels: tuple[str, ...] = ()

    def __init__(self, output: str, blank: int, gap: int | None = None) -> None:
        self.outputs: tuple[str, ...] = (output,)
        self._blank = blank
        self._gap = gap
        self.metrics: tuple[str, ...] = ("character_error_rate",)
        if gap is not None:
            self.metrics += ("word_error_rate",)

    def answer(self, results: Arrays, row: int, example: Example) -> NDArray[np.int64]:
        letters = _likeliest(row_of(results, self.outputs[0], row, 2), axis=-1)
        first = np.r_[True, letters[1:] != letters[:-1]]
        kept: NDArray[np.int64] = letters[first & (letters != self._blank)]
        return kept

    def agreement(self, expected: NDArray[Any], got: NDArray[Any]) -> dict[str, Floats]:
        rates = {"character_error_rate": _error_rate(expected, got)}
        if self._gap is not None:
            rates["word_error_rate"] = _error_rate(
                *(words(letters, self._gap) for letters in (expected, got))
            )
        return {name: np.asarray([rate]) for name, rate in rates.items()}

    def right(self, answer: NDArray[Any], example: Example) -> dict[str, Floats]:
        return {}


def _likeliest(logits: NDArray[Any], axis: int) -> NDArray[np.int64]:
    labels: NDArray[np.int64] = np.where(np.isfinite(logits).all(axis), logits.argmax(axis), _NOTHING)
    return labels


def mean_iou(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Pixels of a class in both over those in either, the mean over the classes in `expected`.

    0 where the two have different shapes.
    """
    if expected.shape != got.shape:
        return 0.0
    shares = []
    for label in np.unique(expected[expected != _NOTHING]):
        mine, other = expected == label, got == label
        shares.append(float((mine & other).sum() / (mine | other).sum()))
    return float(np.mean(shares)) if shares else 0.0


def words(letters: NDArray[np.int64], gap: int) -> list[tuple[int, ...]]:
    """What of `letters` lies between `gap`s, without what is empty."""
    parts = np.split(letters, np.flatnonzero(letters == gap))
    return [word for part in parts if (word := tuple(part[part != gap].tolist()))]


def _error_rate(expected: Sequence[Any] | NDArray[Any], got: Sequence[Any] | NDArray[Any]) -> float:
    return edits(expected, got) / max(len(expected), 1)


def edits(expected: Sequence[Any] | NDArray[Any], got: Sequence[Any] | NDArray[Any]) -> int:
    """How many letters, or words, have to be put in, left out or replaced to make one text the other
    (Levenshtein)."""
    row = np.arange(len(got) + 1)
    for place, letter in enumerate(expected, 1):
        changed = np.minimum(row[1:] + 1, row[:-1] + np.fromiter((other != letter for other in got), bool))
        row = np.minimum.accumulate(np.r_[place, changed] - np.arange(len(row))) + np.arange(len(row))
    return int(row[-1])
