"""Legal calls of a model with real content, to calibrate on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.families import InputDomain

__all__ = ["CalibrationData", "Feeds", "from_text"]

Feeds = Mapping[str, NDArray[Any]]
WINDOW = 512
"""Tokens of a call at most."""


@dataclass(frozen=True)
class CalibrationData:
    """Calls of a model, as feeds by the names of its inputs.

    `name` is what people call the data and `digest` says what is in it: equal digests, equal calls. `rows` is
    how many there are in all of what `unit` names: tokens, or images, say, of a model that takes no text.
    """

    name: str
    digest: str
    calls: tuple[Feeds, ...]
    rows: int
    unit: str = "tokens"

    def __iter__(self) -> Iterator[Feeds]:
        return iter(self.calls)

    def require(self, rows: int, what: str) -> None:
        """Raise `BadInput` where there are fewer than `rows`, which `what` needs: "GPTQ", say."""
        if self.rows < rows:
            raise BadInput(
                f"{self.name} is too short to calibrate on: {what} needs {rows} {self.unit}, "
                f"it has {self.rows}",
                hint="Give more with --calibration.",
            )


def from_text(
    name: str,
    ids: Sequence[int],
    domain: InputDomain,
    *,
    opening: Sequence[int] = (),
    tokens: int,
    window: int = WINDOW,
) -> CalibrationData | None:
    """Calls that each read `window` of the token `ids`, the first `tokens` of them in all.

    Each begins with `opening`, as the model expects a text to. None where a model of this `domain` reads no
    text. What is left of the last whole window is not used.
    """
    length = min(window, domain.positions or window) - len(opening)
    pieces = [ids[start : start + length] for start in range(0, min(tokens, len(ids)) - length + 1, length)]
    calls = []
    for piece in pieces:
        feeds = domain.reading(np.asarray([[*opening, *piece]], np.int64))
        if feeds is None:
            return None
        calls.append(feeds)
    content = hashlib.sha256()
    for feeds in calls:
        for key in sorted(feeds):
            content.update(
                key.encode() + repr(feeds[key].shape).encode() + np.ascontiguousarray(feeds[key]).tobytes()
            )
    return CalibrationData(name, content.hexdigest(), tuple(calls), sum(map(len, pieces)))
