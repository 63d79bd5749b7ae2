"""Texts in one batch with longer ones: what stands beside a text must not change it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from graphopt.families import Assumption, Padding
from graphopt.interface import TensorSpec

__all__ = ["BATCHES", "ROWS", "cut", "padded", "sides_of_padding"]

LENGTHS = (6, 12, 24, 48)
"""Tokens of the texts of a batch: three that are padded, by half and more, and one that is as long as it."""
ROWS = len(LENGTHS)
BATCHES = 11
"""At least: of their texts 33 are padded, about as few as an interval from resampling can be made of."""

Tokens = NDArray[np.int64]


def sides_of_padding(
    assumptions: Iterable[Assumption], past: Iterable[TensorSpec] = ()
) -> tuple[Padding, ...]:
    """Where a batch may be padded: as all `assumptions` allow, and on the left alone where a state of one
    size, of those that hold the `past`, would run on over padding on the right."""
    sides: list[Padding] = ["left", "right"]
    if any(all(isinstance(dim, int) for dim in spec.dims[1:]) for spec in past):
        sides.remove("right")
    allowed = [assumption.padding for assumption in assumptions]
    return tuple(side for side in sides if all(side in some for some in allowed))


def cut(rows: Sequence[Tokens]) -> list[Tokens]:
    """The beginnings of sequences, with 6, 12, 24 and 48 tokens where they have as many."""
    return [row[:count] for row, count in zip(rows, LENGTHS, strict=True)]


def padded(rows: Sequence[Tokens], side: Padding) -> tuple[Tokens, Tokens]:
    """Sequences as one batch int64[B, S], and its mask: 0 at the places of padding, which hold token 0."""
    width = max(map(len, rows))
    tokens, mask = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
    for i, row in enumerate(rows):
        places = slice(width - len(row), None) if side == "left" else slice(len(row))
        tokens[i, places], mask[i, places] = row, 1
    return tokens, mask
