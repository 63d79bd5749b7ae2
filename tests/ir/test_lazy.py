"""Lazy weights read what numpy would have held, whatever the chain and the region."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt.ir._bytes as reading
import graphopt.ir._tensor as tensors
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
    digest,
    has_data,
    lazy,
    same_content,
    simplified,
    tiles,
)

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
STORED = (*FLOATS[:3], ir.DataType.INT8, ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.UINT2)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Scratch:
    return Scratch(tmp_path_factory.mktemp("lazy"))


@dataclass
class Pair:
    """An expression and the array that it stands for."""

    expr: Expr
    array: Any


def stored(scratch: Scratch, array: Any, dtype: ir.DataType) -> Pair:
    array = array.astype(dtype.numpy())
    return Pair(scratch.write([array], dtype, array.shape), array)


def leaf(data: Any, scratch: Scratch) -> Pair:
    shape = data.draw(st.lists(st.integers(1, 6), min_size=0, max_size=3).map(tuple), label="shape")
    dtype = data.draw(st.sampled_from(STORED), label="dtype")
    seed = data.draw(st.integers(0, 9))
    rng = np.random.default_rng(seed)
    low = 0 if dtype in (ir.DataType.UINT4, ir.DataType.UINT2) else -8
    high = 4 if dtype == ir.DataType.UINT2 else 8
    array = rng.integers(low, high, shape)
    if dtype in FLOATS:
        array = array + rng.random(shape)
    made = stored(scratch, np.asarray(array), dtype)
    return Pair(InMemory(made.array), made.array) if data.draw(st.booleans(), label="held") else made


def chain(data: Any, pair: Pair, scratch: Scratch) -> Pair:
    expr, array = pair.expr, pair.array
    kinds = ["cast"]
    if expr.dtype in FLOATS:
        kinds.append("affine")
    if array.ndim:
        kinds += ["transpose", "slice", "join", "split", "swap", "reshape"]
    kind = data.draw(st.sampled_from(kinds), label="kind")
    if kind == "cast":
        dtype = data.draw(st.sampled_from(FLOATS), label="to")
        return Pair(Cast(expr, dtype), array.astype(dtype.numpy()))
    if kind == "affine":
        number = array.dtype.type
        return Pair(Affine(expr, 0.5, 1.0), array * number(0.5) + number(1.0))
    if kind == "transpose":
        perm = tuple(data.draw(st.permutations(range(array.ndim)), label="perm"))
        return Pair(Transposed(expr, perm), array.transpose(perm))
    if kind == "reshape":
        shapes = [(prod(expr.shape),), (1, *expr.shape), (*expr.shape, 1), tuple(reversed(expr.shape))]
        shape = data.draw(st.sampled_from(shapes), label="to shape")
        return Pair(Reshaped(expr, shape), array.reshape(shape))
    axis = data.draw(st.integers(0, array.ndim - 1), label="axis")
    size = array.shape[axis]
    if kind == "join":
        held = InMemory(np.ascontiguousarray(array))
        return Pair(Concatenated((expr, held, expr), axis), np.concatenate([array] * 3, axis))
    start = data.draw(st.integers(0, size - 1), label="start")
    stop = data.draw(st.integers(start + 1, size), label="stop")
    if kind in ("split", "swap"):
        halves = [Sliced(expr, axis, 0, stop), Sliced(expr, axis, stop, size)]
        if kind == "swap":
            halves.reverse()
            array = np.roll(array, -stop, axis)
        return Pair(Concatenated(tuple(halves), axis), array)
    index = tuple(slice(start, stop) if i == axis else slice(None) for i in range(array.ndim))
    return Pair(Sliced(expr, axis, start, stop), array[index])


def same_bits(a: Any, b: Any) -> bool:
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and bool((a.astype(np.float64) == b.astype(np.float64)).all())
    )


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_chain_reads_what_numpy_holds(scratch, data):
    pair = leaf(data, scratch)
    for _ in range(data.draw(st.integers(0, 5), label="links")):
        pair = chain(data, pair, scratch)
    expr, array = pair.expr, pair.array
    assert (expr.shape, expr.dtype.numpy()) == (array.shape, array.dtype)
    region = []
    for size in expr.shape:
        start = data.draw(st.integers(0, size))
        region.append(slice(start, data.draw(st.integers(start, size))))
    for form in (expr, simplified(expr)):
        assert (form.shape, form.dtype) == (expr.shape, expr.dtype)
        assert same_bits(form.read(), array)
        assert same_bits(form.read(tuple(region)), array[tuple(region)])
    rows = [block for _, block in tiles(expr, max_bytes=16)]
    assert same_bits(np.concatenate([np.atleast_1d(row) for row in rows]).reshape(array.shape), array)


@pytest.mark.parametrize("stage", [64, 1 << 20])
@pytest.mark.parametrize("worth", [16, 1 << 20])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_boxes_of_a_file_whichever_way_they_are_read(scratch, stage, worth, data):
    array = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    expr = stored(scratch, array, ir.DataType.FLOAT).expr
    region = tuple(
        slice(start, data.draw(st.integers(start, size)))
        for size in array.shape
        for start in [data.draw(st.integers(0, size))]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_STAGE", stage)
        patch.setattr(reading, "_WORTH_A_CALL", worth)
        np.testing.assert_array_equal(expr.read(region), array[region])


def test_reading_columns_holds_no_more_than_them_and_a_buffer(scratch):
    rows = 4096
    expr = scratch.write([np.zeros((rows, 2048), np.float32)], ir.DataType.FLOAT, (rows, 2048))
    tracemalloc.start()
    expr.read((slice(0, rows), slice(5, 13)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20


def test_identity_tells_descriptions_apart(scratch):
    array = np.arange(48, dtype=np.float32).reshape(6, 8)
    expr = stored(scratch, array, ir.DataType.FLOAT).expr
    assert isinstance(expr, FileRange)

    def made() -> list[Expr]:
        return [
            FileRange(expr.path, expr.offset, expr.length, expr.dtype, expr.shape),
            FileRange(expr.path, expr.offset, expr.length, expr.dtype, (8, 6)),
            FileRange(expr.path, expr.offset, expr.length, expr.dtype, expr.shape, stamp=1),
            InMemory(array),
            InMemory(array + 1),
            InMemory(array.view(np.int32)),
            Cast(expr, ir.DataType.BFLOAT16),
            Cast(expr, ir.DataType.FLOAT16),
            Transposed(expr, (1, 0)),
            Sliced(expr, 0, 0, 2),
            Sliced(expr, 0, 1, 3),
            Concatenated((expr, expr), 0),
            Concatenated((expr, expr), 1),
            Affine(expr, 2.0, 0.0),
            Affine(expr, 1.0, 2.0),
            Unbound("w", ir.DataType.FLOAT, (6, 8)),
            Unbound("v", ir.DataType.FLOAT, (6, 8)),
        ]

    assert [e.identity for e in made()] == [e.identity for e in made()]
    assert len({e.identity for e in made()}) == len(made())


def test_what_cancels_is_gone_after_simplifying(scratch):
    half = stored(scratch, np.ones((4, 6)), ir.DataType.BFLOAT16).expr
    wide = Cast(half, ir.DataType.FLOAT)
    assert simplified(half) is half
    assert simplified(Transposed(Transposed(half, (1, 0)), (1, 0))) is half
    assert simplified(Cast(wide, ir.DataType.BFLOAT16)) is half
    assert simplified(Affine(half, 1.0, 0.0)) is half
    assert simplified(Sliced(half, 1, 0, 6)) is half
    halves = (Sliced(wide, 0, 0, 1), Sliced(wide, 0, 1, 4))
    assert simplified(Concatenated(halves, 0)).identity == wide.identity


def test_narrowing_casts_do_not_cancel(scratch):
    full = stored(scratch, np.full((2, 2), 1.001), ir.DataType.FLOAT).expr
    there_and_back = Cast(Cast(full, ir.DataType.BFLOAT16), ir.DataType.FLOAT)
    assert isinstance(simplified(there_and_back), Cast)
    assert simplified(there_and_back).read()[0, 0] == 1.0


def test_rows_of_packed_elements_that_start_within_a_byte(scratch):
    pair = stored(scratch, np.arange(15).reshape(5, 3) % 8, ir.DataType.INT4)
    for start in range(5):
        part = simplified(Sliced(pair.expr, 0, start, 5))
        assert same_bits(part.read(), pair.array[start:])


def test_neighbouring_ranges_of_two_files_stay_apart(tmp_path):
    one, two = (stored(Scratch(tmp_path), np.full((4, 2), i), ir.DataType.FLOAT).expr for i in range(2))
    upper = Sliced(one, 0, 0, 2)
    lower = Sliced(two, 0, 2, 4)
    assert simplified(Concatenated((upper, lower), 0)).read()[:, 0].tolist() == [0, 0, 1, 1]


def test_packed_projections_read_whole_rows_of_the_file(scratch):
    """Transposes of q, k and v joined along columns, transposed again for the quantizer: plain rows."""
    q, k = (stored(scratch, np.ones((n, 8)), ir.DataType.BFLOAT16).expr for n in (8, 4))
    columns = [Transposed(Cast(w, ir.DataType.FLOAT), (1, 0)) for w in (q, k)]
    packed = simplified(Transposed(Concatenated(tuple(columns), 1), (1, 0)))
    rows = FileRange(q.path, q.offset, q.length + k.length, q.dtype, (12, 8))
    assert packed.identity == Cast(rows, ir.DataType.FLOAT).identity


@pytest.mark.parametrize(
    "make",
    [
        lambda x: Transposed(x, (0, 0)),
        lambda x: Transposed(x, (0,)),
        lambda x: Reshaped(x, (5, 2)),
        lambda x: Sliced(x, 0, 1, 9),
        lambda x: Sliced(x, 2, 0, 1),
        lambda x: Concatenated((x, Transposed(x, (1, 0))), 0),
        lambda x: Concatenated((x, Cast(x, ir.DataType.FLOAT16)), 0),
        lambda x: Affine(Cast(x, ir.DataType.INT8), 0.5, 0.0),
        lambda x: FileRange(Path("w"), 0, 10, ir.DataType.FLOAT, (2, 2)),
        lambda x: FileRange(Path("w"), -4, 16, ir.DataType.FLOAT, (2, 2)),
    ],
)
def test_impossible_expressions_are_refused_when_made(make):
    with pytest.raises(ValueError, match=r"permutation|become|within|joined|affine|cannot hold"):
        make(InMemory(np.ones((2, 3), np.float32)))


def test_a_file_that_ends_early_is_an_error_not_zeros(scratch, tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(bytes(60))
    with pytest.raises(BadInput, match=r"w\.bin ends before byte 64"):
        FileRange(path, 0, 64, ir.DataType.FLOAT, (4, 4)).read()


def test_held_arrays_cannot_be_written_through():
    array = np.ones(3, np.float32)
    read = InMemory(array).read()
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 2
    array[0] = 2  # the owner's own array stays writable


def test_tiles_cover_everything_in_order_within_their_size(scratch):
    pair = stored(scratch, np.arange(48).reshape(6, 8), ir.DataType.FLOAT)
    parts = list(tiles(pair.expr, max_bytes=2 * 8 * 4))
    assert [p for p, _ in parts] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert [p for p, _ in tiles(InMemory(np.float32(3).reshape(())))] == [slice(0, 1)]
    assert [b.shape for _, b in tiles(InMemory(np.ones((0, 4), np.float32)))] == [(0, 4)]


@pytest.mark.parametrize("dtype", [ir.DataType.INT4, ir.DataType.UINT2])
def test_tiles_of_packed_types_end_on_bytes(scratch, monkeypatch, dtype):
    pair = stored(scratch, np.arange(39).reshape(13, 3) % 4, dtype)
    copy = scratch.write((block for _, block in tiles(pair.expr, max_bytes=1)), dtype, pair.array.shape)
    assert same_bits(copy.read(), pair.array)
    whole = digest(pair.expr)
    monkeypatch.setattr(tensors, "_TILE", 1)
    assert digest(pair.expr) == whole
    assert LazyTensor(pair.expr).tobytes() == ir.Tensor(pair.array, dtype=dtype).tobytes()


def test_unbound_weights_have_no_data():
    tensor = LazyTensor(
        Concatenated((Unbound("w", ir.DataType.FLOAT, (2, 3)), InMemory(np.ones((1, 3), "f4"))), 0)
    )
    assert not has_data(tensor)
    assert has_data(ir.tensor([1.0]))
    with pytest.raises(ValueError, match="'w' has no data"):
        tensor.numpy()


@pytest.mark.parametrize("dtype", STORED)
def test_same_content_and_digest_see_every_bit(scratch, dtype):
    array = np.arange(-24, 24).reshape(6, 8) % 4
    pair = stored(scratch, array, dtype)
    file, held = LazyTensor(pair.expr), ir.tensor(pair.array, dtype=dtype)
    other = pair.array.copy()
    other[5, 7] = 0
    assert same_content(file, held)
    assert (
        digest(pair.expr) == digest(lazy(held)) == digest(Transposed(InMemory(pair.array.T.copy()), (1, 0)))
    )
    assert not same_content(file, ir.tensor(other, dtype=dtype))
    assert digest(pair.expr) != digest(InMemory(other))


def test_content_of_another_shape_or_dtype_is_other_content():
    zeros = np.zeros((2, 3), np.float32)
    for other in (zeros.reshape(3, 2), zeros.view(np.int32)):
        assert not same_content(ir.tensor(zeros), ir.tensor(other))
        assert digest(InMemory(zeros)) != digest(InMemory(other))


def test_negative_zero_differs_from_zero():
    assert not same_content(ir.tensor(np.float32([0.0])), ir.tensor(np.float32([-0.0])))


@pytest.mark.parametrize("dtype", STORED)
def test_tensors_serialize_as_onnx_ir_would(scratch, dtype):
    pair = stored(scratch, np.arange(15).reshape(5, 3) % 4, dtype)
    tensor, expected = LazyTensor(pair.expr, "w"), ir.Tensor(pair.array, dtype=dtype, name="w")
    assert isinstance(tensor, ir.TensorProtocol)
    assert lazy(tensor) is pair.expr
    assert tensor.tobytes() == expected.tobytes()
    assert (tensor.nbytes, tensor.size, tensor.shape) == (expected.nbytes, expected.size, expected.shape)
    assert ir.to_proto(tensor) == ir.to_proto(expected)
    assert np.array_equal(np.asarray(tensor), pair.array)


def test_tofile_writes_what_tobytes_returns(scratch, tmp_path):
    tensor = LazyTensor(stored(scratch, np.arange(15).reshape(5, 3), ir.DataType.BFLOAT16).expr)
    with (tmp_path / "w").open("wb") as file:
        tensor.tofile(file)
    assert (tmp_path / "w").read_bytes() == tensor.tobytes()


def test_raw_bits_get_their_dtype():
    bits = np.array([0x3F80, 0xC000], np.uint16)
    expr = lazy(ir.Tensor(bits, dtype=ir.DataType.BFLOAT16))
    assert expr.read().dtype == ml_dtypes.bfloat16
    assert expr.read().tolist() == [1.0, -2.0]


def test_scratch_gives_back_what_was_written(tmp_path):
    scratch = Scratch(tmp_path)
    a, b = np.arange(12, dtype=np.uint8).reshape(3, 4), np.ones((2, 2), np.float32)
    first = scratch.write([a[:1], a[1:]], ir.DataType.UINT8, (3, 4))
    second = scratch.write([b], ir.DataType.FLOAT, (2, 2))
    np.testing.assert_array_equal(first.read(), a)
    np.testing.assert_array_equal(second.read(), b)


@pytest.mark.parametrize("tiles_given", [1, 3])
def test_scratch_refuses_too_little_and_too_much_and_harms_no_neighbour(tmp_path, tiles_given):
    scratch = Scratch(tmp_path)
    block = np.ones((2, 4), np.uint8)
    before = scratch.write([block], ir.DataType.UINT8, (2, 4))
    with pytest.raises(ValueError, match="bytes written"):
        scratch.write([block] * tiles_given, ir.DataType.UINT8, (4, 4))
    after = scratch.write([block * 2], ir.DataType.UINT8, (2, 4))
    np.testing.assert_array_equal(before.read(), block)
    np.testing.assert_array_equal(after.read(), block * 2)


def test_two_scratches_of_one_folder_do_not_mix(tmp_path):
    one, two = Scratch(tmp_path), Scratch(tmp_path)
    a = one.write([np.zeros(4, np.uint8)], ir.DataType.UINT8, (4,))
    two.write([np.ones(4, np.uint8)], ir.DataType.UINT8, (4,))
    assert a.read().tolist() == [0] * 4
