"""Lazy weights read what numpy would have held."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import BadInput
from graphopt.ir import (
    Affine,
    Cast,
    Concatenated,
    Expr,
    FileRange,
    InMemory,
    LazyTensor,
    Reshaped,
    Scratch,
    Sliced,
    Transposed,
    Unbound,
    has_data,
    lazy,
    same_content,
    tiles,
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[Path, np.ndarray]:
    array = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    path = tmp_path_factory.mktemp("lazy") / "w.bin"
    path.write_bytes(b"head" + array.tobytes() + array.astype(ml_dtypes.bfloat16).tobytes())
    return path, array


def expressions(path: Path, array: np.ndarray) -> dict[str, tuple[Expr, np.ndarray]]:
    file = FileRange(path, 4, array.nbytes, ir.DataType.FLOAT, array.shape)
    half = FileRange(path, 4 + array.nbytes, array.nbytes // 2, ir.DataType.BFLOAT16, array.shape)
    rounded = array.astype(ml_dtypes.bfloat16).astype(np.float32)
    return {
        "file": (file, array),
        "bf16": (Cast(half, ir.DataType.FLOAT), rounded),
        "transposed": (Transposed(file, (1, 0)), array.T),
        "sliced": (Sliced(file, 1, 2, 7), array[:, 2:7]),
        "concatenated": (Concatenated((file, InMemory(array[:3])), 0), np.concatenate([array, array[:3]])),
        "columns": (
            Concatenated((Transposed(file, (1, 0)), InMemory(array.T)), 1),
            np.concatenate([array.T] * 2, 1),
        ),
        "affine": (Affine(file, 2.0, 1.0), array * 2 + 1),
        "reshaped": (Reshaped(file, (4, 12)), array.reshape(4, 12)),
    }


@pytest.mark.parametrize("name", sorted(expressions(Path("x"), np.zeros((6, 8), np.float32))))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_region_equals_numpys(stored, name, data):
    expr, expected = expressions(*stored)[name]
    assert expr.shape == expected.shape
    region = []
    for size in expr.shape:
        start = data.draw(st.integers(0, size - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, size))))
    np.testing.assert_array_equal(expr.read(tuple(region)), expected[tuple(region)])
    np.testing.assert_array_equal(expr.read(), expected)


def test_identity_tells_equal_descriptions_from_different_ones(stored):
    one, two = (expressions(*stored) for _ in range(2))
    assert {n: e.identity for n, (e, _) in one.items()} == {n: e.identity for n, (e, _) in two.items()}
    assert len({e.identity for e, _ in one.values()}) == len(one)


def test_tiles_cover_everything_within_their_size(stored):
    file = expressions(*stored)["file"][0]
    parts = list(tiles(file, max_bytes=2 * 8 * 4))
    assert [p for p, _ in parts] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    np.testing.assert_array_equal(np.concatenate([b for _, b in parts]), stored[1])


def test_a_file_that_ends_early_is_an_error_not_zeros(stored):
    path, array = stored
    beyond = FileRange(path, path.stat().st_size - 8, array.nbytes, ir.DataType.FLOAT, array.shape)
    with pytest.raises(BadInput, match="ends before"):
        beyond.read()


def test_unbound_weights_have_no_data():
    tensor = LazyTensor(Transposed(Unbound("w", ir.DataType.FLOAT, (2, 3)), (1, 0)))
    assert not has_data(tensor)
    with pytest.raises(ValueError, match="'w' has no data"):
        tensor.numpy()


def test_same_content_reads_where_identity_does_not_decide(stored):
    file = LazyTensor(expressions(*stored)["file"][0])
    held = ir.tensor(stored[1])
    other = stored[1].copy()
    other[5, 7] += 1
    assert same_content(file, held)
    assert not same_content(file, ir.tensor(other))


def test_scratch_gives_back_what_was_written(tmp_path):
    scratch = Scratch(tmp_path)
    a, b = np.arange(12, dtype=np.uint8).reshape(3, 4), np.ones((2, 2), np.float32)
    first = scratch.write([a[:1], a[1:]], ir.DataType.UINT8, (3, 4))
    second = scratch.write([b], ir.DataType.FLOAT, (2, 2))
    np.testing.assert_array_equal(first.read(), a)
    np.testing.assert_array_equal(second.read(), b)
    with pytest.raises(ValueError, match="bytes written"):
        scratch.write([a], ir.DataType.UINT8, (5, 4))


def test_lazy_tensor_is_what_onnx_ir_takes(stored):
    expr, expected = expressions(*stored)["transposed"]
    tensor = LazyTensor(expr, "w")
    assert isinstance(tensor, ir.TensorProtocol)
    assert lazy(tensor) is expr
    np.testing.assert_array_equal(np.asarray(tensor), expected)
    assert tensor.tobytes() == np.ascontiguousarray(expected).tobytes()
