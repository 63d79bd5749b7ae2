"""Heads that answer a question with a span of its context."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.evaluate._closing import LOSSLESS
from graphopt.evaluate._example_lines import Kind
from graphopt.evaluate._examples import Example
from graphopt.evaluate._head import FLIPS, LABEL_ACCURACY, Floats, row_of
from graphopt.interface import Arrays

__all__ = ["Span", "SpanHead", "best_span", "same_answer"]

_TIE = 4 * LOSSLESS
"""Standard deviations of logits by which two spans may change places: four logits are in the comparison, and
each may be off by what a lossless package may."""


@dataclass(frozen=True)
class Span:
    """First and last token of the likeliest span (None: not all is finite), and what it was chosen from."""

    at: tuple[int, int] | None
    start: NDArray[Any]
    end: NDArray[Any]
    places: NDArray[np.bool_]

    def near(self, other: tuple[int, int]) -> bool:
        """Whether `other` is as likely, near-ties counted in."""
        if self.at is None:
            return False
        if self.at == other:
            return True
        start, end = self.start.astype(np.float64), self.end.astype(np.float64)
        lost = start[self.at[0]] + end[self.at[1]] - start[other[0]] - end[other[1]]
        spread = np.concatenate([start[self.places], end[self.places]]).std()
        return bool(lost <= _TIE * spread)


def best_span(start: NDArray[Any], end: NDArray[Any], places: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The i <= j among `places` bool[S] with the largest start[i] + end[j]; None where a logit is not finite.

    Of several the one that ends first, and of these the one that begins first.
    """
    first = np.where(places, start, -np.inf).astype(np.float64)
    last = np.where(places, end, -np.inf).astype(np.float64)
    if not places.any() or not np.isfinite(start[places] + end[places]).all():
        return None
    best = np.maximum.accumulate(first)
    j = int((best + last).argmax())
    return int(first[: j + 1].argmax()), j


class SpanHead:
    """Answers in a context, from `start_logits` and `end_logits` [batch, S]: the likeliest span within it."""

    line: Kind | None = "question"
    outputs: tuple[str, ...] = ("start_logits", "end_logits")
    metrics: tuple[str, ...] = ("span_agreement",)
    of_labels: tuple[str, ...] = (LABEL_ACCURACY, *FLIPS)

    def answer(self, results: Arrays, row: int, example: Example) -> Span:
        start, end = (row_of(results, name, row, 1) for name in self.outputs)
        places = np.ones(len(start), np.bool_) if example.places is None else example.places
        return Span(best_span(start, end, places), start, end, places)

    def agreement(self, expected: Span, got: Span) -> dict[str, Floats]:
        return {"span_agreement": np.asarray([float(got.at is not None and expected.near(got.at))])}

    def right(self, answer: Span, example: Example) -> dict[str, Floats]:
        if answer.at is None:
            right = False
        elif example.answers is not None:
            begin, end = example.characters[answer.at[0]][0], example.characters[answer.at[1]][1]
            right = any(same_answer(example.context[begin:end], known) for known in example.answers)
        else:
            assert example.labels is not None
            right = answer.at == tuple(example.labels.tolist())
        return {LABEL_ACCURACY: np.asarray([float(right)])}


def same_answer(a: str, b: str) -> bool:
    """Whether two answers are the same but for case, punctuation, articles and spaces (SQuAD's exact match,
    Rajpurkar et al. 2016)."""
    return _words(a) == _words(b)


def _words(text: str) -> list[str]:
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()
