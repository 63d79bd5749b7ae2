"""A text in pieces, cut where it says a certain word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["until"]


def until(pieces: Iterable[str], stop: Sequence[str], stopped: Callable[[], None]) -> Iterator[str]:
    """`pieces` up to the first place where one of `stop` begins; `stopped` is called if there is one.

    What may be the beginning of a stop string is held back until it is certain.
    """
    words = [word for word in stop if word]
    held = ""
    for piece in pieces:
        held += piece
        found = [held.index(word) for word in words if word in held]
        if found:
            stopped()
            if held[: min(found)]:
                yield held[: min(found)]
            return
        keep = max((_beginning(held, word) for word in words), default=0)
        if len(held) > keep:
            yield held[: len(held) - keep]
            held = held[len(held) - keep :]
    if held:
        yield held


def _beginning(text: str, word: str) -> int:
    """How many characters at the end of `text` are the beginning of `word`."""
    return next(n for n in range(min(len(text), len(word) - 1), -1, -1) if text.endswith(word[:n]))
