"""A graph of one size runs calls of others, and refuses what it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from graphopt.interface import Interface, TensorSpec
from graphopt.runtime import RuntimeRefused
from graphopt.runtime._fixed_sizes import FixedSizes

TEXT = Interface(
    (
        TensorSpec("input_ids", "int64", ("batch", "sequence")),
        TensorSpec("attention_mask", "int64", ("batch", "sequence")),
    ),
    (
        TensorSpec("hidden", "float32", ("batch", "sequence", 2)),
        TensorSpec("pooled", "float32", ("batch", 2)),
    ),
)


class Graph:
    """Of two rows and four places; it counts its calls and takes no other size."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.calls += 1
        ids, mask = feeds["input_ids"], feeds["attention_mask"]
        assert ids.shape == mask.shape == (2, 4)
        hidden = np.repeat((ids * mask)[..., None], 2, 2).astype(np.float32)
        return {"hidden": hidden, "pooled": hidden.sum(1)}


def feeds(rows: int, length: int) -> dict[str, Any]:
    ids = np.arange(1, rows * length + 1).reshape(rows, length)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


@pytest.mark.parametrize(("rows", "length", "calls"), [(2, 4, 1), (1, 4, 1), (2, 3, 1), (5, 1, 3)])
def test_results_are_those_of_the_call(rows: int, length: int, calls: int) -> None:
    graph, given = Graph(), feeds(rows, length)
    found = FixedSizes({"batch": 2, "sequence": 4}, TEXT).run(given, graph)
    assert graph.calls == calls
    assert found["hidden"].shape == (rows, length, 2)
    np.testing.assert_array_equal(found["hidden"][..., 0], given["input_ids"])
    np.testing.assert_array_equal(found["pooled"][:, 1], given["input_ids"].sum(1))


@pytest.mark.parametrize(
    ("rows", "length", "reason"), [(2, 5, "sequence = 4 at most, not 5"), (0, 4, "0"), (2, 0, "0")]
)
def test_what_is_longer_or_empty_is_refused(rows: int, length: int, reason: str) -> None:
    with pytest.raises(RuntimeRefused, match=reason):
        FixedSizes({"batch": 2, "sequence": 4}, TEXT).run(feeds(rows, length), Graph())


def test_what_is_no_text_is_neither_padded_nor_cut() -> None:
    """Of rows in general nobody knows that they stand alone."""
    spec = TensorSpec("x", "float32", ("batch", "time"))
    fixed = FixedSizes({"batch": 1, "time": 4}, Interface((spec,), (spec,)))
    assert fixed.run({"x": np.ones((1, 4), np.float32)}, dict)["x"].shape == (1, 4)
    for shape, said in (((1, 3), "time = 4, not 3"), ((2, 4), "batch = 1, not 2")):
        with pytest.raises(RuntimeRefused, match=f"compiled for {said}"):
            fixed.run({"x": np.ones(shape, np.float32)}, dict)
