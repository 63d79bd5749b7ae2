"""Other numbers for stored weights: of the same kind, and the same wherever the same bytes are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import Concatenated, Expr, FileRange, Transposed
from graphopt.verify._varied import can_be_varied, varied

ARRAY = np.asarray([[1, -2, 0, 4], [-5, 6, 7, -8]], np.float32)


@pytest.fixture
def whole(tmp_path: Path) -> FileRange:
    (tmp_path / "weights.bin").write_bytes(ARRAY.tobytes())
    return FileRange(tmp_path / "weights.bin", 0, ARRAY.nbytes, ir.DataType.FLOAT, ARRAY.shape)


def test_signs_and_magnitudes_stay_and_zero_goes(whole: FileRange) -> None:
    changed = varied(whole).read()
    kept = ARRAY != 0
    assert changed.dtype == ARRAY.dtype
    assert ((changed[kept] / ARRAY[kept] >= 0.25) & (changed[kept] / ARRAY[kept] <= 1)).all()
    assert 0 < changed[0, 2] <= 0.01
    assert (changed != ARRAY).sum() > 6


def test_the_same_bytes_are_the_same_however_they_are_read(whole: FileRange) -> None:
    rows = tuple(FileRange(whole.path, 16 * row, 16, ir.DataType.FLOAT, (1, 4)) for row in range(2))
    changed = varied(whole).read()
    assert np.array_equal(varied(Concatenated(rows, 0)).read(), changed)
    assert np.array_equal(varied(Transposed(whole, (1, 0))).read(), changed.T)
    assert np.array_equal(varied(whole).read((slice(1, 2), slice(1, 3))), changed[1:2, 1:3])


def test_integers_stay(whole: FileRange) -> None:
    numbers = FileRange(whole.path, 0, 32, ir.DataType.INT32, (8,))
    assert np.array_equal(varied(numbers).read(), numbers.read())


def test_an_expression_that_cannot_be_taken_apart_is_told(whole: FileRange) -> None:
    class Plain(Expr):
        sources = (whole,)

    assert can_be_varied(Transposed(whole, (1, 0)))
    assert not can_be_varied(Plain())
