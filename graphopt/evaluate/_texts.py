"""Text to measure accuracy on, as tokens of the model at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.plugins import registry
from graphopt.runtime import Tokenizer

__all__ = ["Text", "built_in_text", "read_text", "sequences"]

HELD_OUT = "heldout.txt"
WINDOW = 256
"""Tokens of a sequence: short, so that there are many to resample and their logits fit in memory.
Perplexities are higher than in long ones, of package and reference alike."""
CHARACTERS = 64
"""More than a token ever stands for on average, so that a huge file is not tokenized whole."""

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Text:
    """What to measure on; `name` is for people."""

    name: str
    content: str


def built_in_text() -> Text:
    """The held-out text that ships with an embedded model: Python source."""
    for model, folder in registry.embedded_models().items():
        if (folder / HELD_OUT).is_file():
            return Text(f"held-out text of {model}", (folder / HELD_OUT).read_text(encoding="utf-8"))
    raise EnvironmentProblem("no embedded model brings a held-out text", hint="Give one with --data FILE.")


def read_text(path: Path) -> Text:
    """The text file at `path`. `BadInput` where it is missing, not UTF-8 or empty."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not a text file: {error}") from error
    if not content.strip():
        raise BadInput(f"{path} is empty")
    return Text(path.name, content)


def sequences(text: Text, tokenizer: Tokenizer, *, tokens: int, context: int | None) -> Iterator[Tokens]:
    """`text` as consecutive sequences int64[S] of at most 256 tokens and `context`, `tokens` of them in all.

    Every sequence begins with the tokenizer's opening.
    """
    opening = tokenizer.opening()
    length = min(WINDOW, context or WINDOW) - len(opening)
    ids = tokenizer.plain(text.content[: CHARACTERS * tokens])[:tokens]
    for start in range(0, len(ids), length):
        piece = ids[start : start + length]
        if len(piece) > 1:
            yield np.asarray([*opening, *piece], np.int64)
