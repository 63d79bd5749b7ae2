"""Matrices in blocks of small integers: what they stand for, and what is left of them once rows moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.cache._expressions import decoded_expr, encoded_expr
from graphopt.cache._model import ModelWriter
from graphopt.ir import (
    Blocks,
    Cast,
    Concatenated,
    Expr,
    InMemory,
    LazyTensor,
    Reshaped,
    Scaled,
    Sliced,
    Transposed,
    blocks_of,
    same_content,
    tiles,
)

Array = np.ndarray[Any, Any]


def made(n: int, k: int, bits: int, block: int, *, zeros: bool = True, seed: int = 0) -> tuple[Blocks, Array]:
    """Blocks of random integers, packed one by one here, and the matrix they stand for."""
    rng, across = np.random.default_rng(seed), -(-k // block)
    integers = rng.integers(0, 1 << bits, (n, across, block))
    points = rng.integers(0, 1 << bits, (n, across)) if zeros else np.full((n, across), 1 << (bits - 1))
    scales = rng.standard_normal((n, across)).astype(np.float32)

    def packed(values: Array) -> Array:
        out = np.zeros((*values.shape[:-1], -(-values.shape[-1] * bits // 8)), np.uint8)
        for index in range(values.shape[-1]):
            byte, shift = divmod(index * bits, 8)
            out[..., byte] |= (values[..., index] << shift).astype(np.uint8)
        return out

    held = InMemory(packed(points)) if zeros else None
    blocks = Blocks(InMemory(packed(integers)), InMemory(scales), held, bits, block, k)
    matrix = (integers - points[..., None]).astype(np.float32) * scales[..., None]
    return blocks, matrix.reshape(n, -1)[:, :k]


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("n", "k", "block"), [(6, 96, 32), (5, 200, 64), (3, 16, 16), (4, 40, 8)])
def test_they_stand_for_integer_less_zero_times_scale(
    n: int, k: int, block: int, bits: int, zeros: bool
) -> None:
    blocks, matrix = made(n, k, bits, block, zeros=zeros)

    np.testing.assert_array_equal(blocks.read(), matrix)
    for rows, columns in (
        (slice(1, 3), slice(3, 13)),
        (slice(0, 1), slice(k - 5, k)),
        (slice(2, 2), slice(0, k)),
    ):
        np.testing.assert_array_equal(blocks.read((rows, columns)), matrix[rows, columns])
    parts = [tile for _, tile in tiles(blocks, 2 * k * 4)]
    assert len(parts) == -(-n // 2)
    np.testing.assert_array_equal(np.concatenate(parts), matrix)


@pytest.mark.parametrize("wrong", ["packed", "scales", "zeros", "bits"])
def test_sizes_that_disagree_are_refused(wrong: str) -> None:
    blocks, _ = made(4, 64, 4, 16)
    fields: dict[str, Any] = {name: getattr(blocks, name) for name in ("packed", "scales", "zeros")}
    bits = 3 if wrong == "bits" else 4
    if wrong != "bits":
        fields[wrong] = Sliced(fields[wrong], 1, 0, 1)

    with pytest.raises(ValueError, match="bits" if wrong == "bits" else "is wanted"):
        Blocks(**fields, bits=bits, block=16, width=64)


def test_rows_that_were_joined_cut_and_turned_are_found() -> None:
    a, first = made(6, 80, 4, 16, zeros=False)
    b, second = made(5, 80, 4, 16, seed=1)
    turned = Concatenated(tuple(Transposed(x, (1, 0)) for x in (a, b)), 1)
    expr: Expr = Transposed(Reshaped(Sliced(turned, 1, 2, 9), (80, 7)), (1, 0))

    found = blocks_of(Cast(LazyTensor(expr).expr, ir.DataType.FLOAT))

    assert isinstance(found, Blocks)
    np.testing.assert_array_equal(found.read(), np.concatenate([first, second])[2:9])
    np.testing.assert_array_equal(found.read(), expr.read())


@pytest.mark.parametrize(
    ("expr", "reason"),
    [
        (lambda a, b: Sliced(a, 1, 0, 32), "sliced after it was unpacked"),
        (lambda a, b: Scaled(a, InMemory(np.ones(64, np.float32)), 1), "scaled after"),
        (lambda a, b: Cast(Cast(a, ir.DataType.FLOAT16), ir.DataType.FLOAT), "cast after"),
        (lambda a, b: Concatenated((a, b), 0), "4 bits in blocks of 16, 4 bits in blocks of 32"),
        (lambda a, b: Concatenated((a, InMemory(np.ones((1, 64), np.float32))), 0), "not in blocks"),
        (lambda a, b: Transposed(a, (1, 0)), "transposed after"),
    ],
)
def test_there_is_a_reason_where_they_are_none_any_more(expr: Any, reason: str) -> None:
    found = blocks_of(expr(made(4, 64, 4, 16)[0], made(4, 64, 4, 32)[0]))

    assert isinstance(found, str)
    assert reason in found


def test_a_matrix_without_blocks_has_none() -> None:
    assert blocks_of(Concatenated((InMemory(np.ones((2, 4), np.float32)),) * 2, 0)) is None


def test_they_come_back_from_the_cache(tmp_path: Path) -> None:
    both = [made(4, 64, 4, 16)[0], made(4, 64, 8, 32, zeros=False)[0]]
    writer = ModelWriter(tmp_path, tmp_path / "spill")
    with (tmp_path / "arrays.bin").open("wb") as writer._stream:
        forms = [encoded_expr(blocks, writer) for blocks in both]
    back = [decoded_expr(form, lambda _: tmp_path, tmp_path / "arrays.bin") for form in forms]

    assert [expr.identity for expr in back] == [expr.identity for expr in both]
    assert same_content(LazyTensor(back[0]), LazyTensor(both[0]))
    assert len({both[0].identity, made(4, 64, 4, 16, seed=1)[0].identity, both[1].identity}) == 3
