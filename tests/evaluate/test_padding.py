"""Batches of unequal texts: on the sides where a package can be padded, each text where its mask is."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.evaluate._padding import cut, padded, sides_of_padding
from graphopt.families import Assumption, Padding
from graphopt.interface import TensorSpec

RIGHT = Assumption("right", "padding is on the right", padding=("none", "right"))
GROWING = TensorSpec("past_key_values.0.key", "float32", ("batch", 2, "past", 4))
FIXED = TensorSpec("past_key_values.0.conv_state", "float32", ("batch", 3, 2))


@pytest.mark.parametrize(
    ("assumptions", "past", "expected"),
    [
        ([], [], ("left", "right")),
        ([Assumption("k", "in words")], [GROWING], ("left", "right")),
        ([RIGHT], [], ("right",)),
        ([], [GROWING, FIXED], ("left",)),
        ([RIGHT], [FIXED], ()),
    ],
)
def test_padding_is_where_assumptions_and_states_allow_it(
    assumptions: list[Assumption], past: list[TensorSpec], expected: tuple[Padding, ...]
) -> None:
    assert sides_of_padding(assumptions, past) == expected


def test_rows_are_of_unequal_length() -> None:
    assert [len(row) for row in cut([np.arange(9), *[np.arange(100)] * 3])] == [6, 12, 24, 48]
    assert [len(row) for row in cut([np.arange(4)] * 4)] == [4] * 4


def test_each_text_stands_where_its_mask_is() -> None:
    rows = [np.asarray([5, 6]), np.asarray([7, 8, 9])]

    for side, first in (("left", [0, 5, 6]), ("right", [5, 6, 0])):
        tokens, mask = padded(rows, side)  # type: ignore[arg-type]
        assert tokens.tolist() == [first, [7, 8, 9]]
        assert mask.tolist() == [[int(token != 0) for token in first], [1, 1, 1]]
