"""Searching for what turns a result bad, over verdicts alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

__all__ = ["Verdict", "first_bad", "minimal"]

Verdict = Literal["good", "bad", "skip"]
T = TypeVar("T")


def first_bad(count: int, test: Callable[[int], Verdict]) -> tuple[int, int]:
    """The last good and the first bad of 0..`count`, of which 0 is good and `count` bad.

    Numbers between the two were skipped. Where good and bad alternate, it is one of the turns.
    """
    good, bad = 0, count
    while bad - good > 1:
        for middle in _outwards(good, bad):
            verdict = test(middle)
            if verdict == "good":
                good = middle
            elif verdict == "bad":
                bad = middle
            else:
                continue
            break
        else:
            break
    return good, bad


def _outwards(low: int, high: int) -> Iterator[int]:
    """What lies strictly between, the middle first."""
    yield from sorted(range(low + 1, high), key=lambda number: abs(2 * number - low - high))


def minimal(items: Sequence[T], test: Callable[[Sequence[T]], Verdict]) -> list[T]:
    """A part of `items` that is bad, while without any one of its members it is not.

    `test` of all of them is bad. Delta debugging: Zeller and Hildebrandt 2002, doi 10.1109/32.988498.
    """
    kept, parts = list(items), 2
    while len(kept) > 1:
        size = -(-len(kept) // parts)
        chunks = [kept[start : start + size] for start in range(0, len(kept), size)]
        smaller = _reduced(kept, chunks, test)
        if smaller is not None:
            parts = max(2, min(len(smaller), parts - 1 if len(smaller) > size else 2))
            kept = smaller
        elif parts >= len(kept):
            break
        else:
            parts = min(len(kept), 2 * parts)
    if len(kept) == 1 and test([]) == "bad":
        return []
    return kept


def _reduced(kept: list[T], chunks: list[list[T]], test: Callable[[Sequence[T]], Verdict]) -> list[T] | None:
    for chunk in chunks:
        if len(chunk) < len(kept) and test(chunk) == "bad":
            return chunk
    for index in range(len(chunks)):
        rest = [item for number, chunk in enumerate(chunks) if number != index for item in chunk]
        if rest and len(rest) < len(kept) and test(rest) == "bad":
            return rest
    return None
