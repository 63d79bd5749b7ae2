"""Expressions of others: what `Expr` does for a subclass that says its op, its fields and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import (
    Cast,
    Concatenated,
    Expr,
    FileRange,
    InMemory,
    LazyTensor,
    Region,
    Rotated,
    Scaled,
    Taken,
    Transposed,
    digest,
    expression_type,
    same_content,
    simplified,
    tiles,
)


@dataclass(frozen=True, eq=False)
class Summed(Expr):
    """The sum of `terms`, of one shape and dtype, times `factor`."""

    op: ClassVar[str] = "test.summed"
    terms: tuple[Expr, ...]
    factor: float

    def __post_init__(self) -> None:
        self.describe(self.terms[0].shape, self.terms[0].dtype)

    def read(self, region: Region | None = None) -> np.ndarray:
        total: np.ndarray = sum((term.read(region) for term in self.terms[1:]), self.terms[0].read(region))
        return total * np.float32(self.factor)


A, B = (InMemory(np.arange(6, dtype=np.float32).reshape(2, 3) * n) for n in (1, 10))


def test_identity_follows_from_op_and_fields() -> None:
    same = InMemory(A.array.copy())
    assert Summed((A, B), 2.0).identity == Summed((same, B), 2.0).identity
    others = (Summed((B, A), 2.0), Summed((A, B), 3.0), Summed((A,), 2.0), Concatenated((A, B), 0))
    assert len({expr.identity for expr in (Summed((A, B), 2.0), *others)}) == 5


def test_it_is_read_saved_and_compared_as_any() -> None:
    expr = Summed((A, B), 2.0)
    held = ir.tensor(expr.read())

    assert expr.nbytes == 24
    assert list(expr.leaves()) == [A, B]
    assert digest(expr) == digest(InMemory(held.numpy()))
    assert same_content(LazyTensor(expr), held)
    assert not same_content(LazyTensor(Summed((A, B), 3.0)), held)
    assert LazyTensor(expr).tobytes() == held.tobytes()


def test_what_it_is_made_from_is_simplified() -> None:
    turned = Transposed(Transposed(A, (1, 0)), (1, 0))
    assert simplified(Summed((turned, B), 2.0)).sources == (A, B)
    plain = Summed((A, B), 2.0)
    assert simplified(plain) is plain


def test_a_subclass_is_found_by_its_op() -> None:
    assert expression_type("test.summed") is Summed
    assert expression_type("cast") is Cast
    assert expression_type("nobody") is None
    assert expression_type(3) is None


def test_an_op_is_one_subclass() -> None:
    with pytest.raises(TypeError, match="'cast' already"):
        type("Cast", (Expr,), {"op": "cast"})


def test_scaled_by_channels(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(A.array.tobytes())
    source = FileRange(tmp_path / "w.bin", 0, 24, ir.DataType.FLOAT, (2, 3))
    columns, rows = np.float32([1, 0.5, 3]), np.float32([-1, 7])

    assert np.array_equal(Scaled(source, InMemory(columns), 1).read(), A.array * columns)
    assert np.array_equal(Scaled(source, InMemory(rows), 0).read(), A.array * rows[:, None])
    part = Scaled(source, InMemory(columns), 1).read((slice(1, 2), slice(1, 3)))
    assert np.array_equal(part, (A.array * columns)[1:2, 1:3])
    whole = np.concatenate([tile for _, tile in tiles(Scaled(source, InMemory(rows), 0), 12)])
    assert np.array_equal(whole, A.array * rows[:, None])


@pytest.mark.parametrize(("factors", "axis"), [((1, 2), 1), ((1, 2, 3), 2), ((1, 2, 3), -1)])
def test_scaled_wants_a_factor_for_each_channel(factors: tuple[int, ...], axis: int) -> None:
    with pytest.raises(ValueError, match=f"axis {axis}"):
        Scaled(A, InMemory(np.float32(factors)), axis)


def test_scaled_wants_factors_of_its_dtype() -> None:
    with pytest.raises(ValueError, match="FLOAT16 for FLOAT"):
        Scaled(A, InMemory(np.float16([1, 2])), 0)


def _matrix(signs: np.ndarray, core: np.ndarray) -> np.ndarray:
    """R of `Rotated`, spelled out."""
    times = len(signs) // len(core)
    hadamard = np.eye(1)
    while len(hadamard) < times:
        hadamard = np.kron(np.array([[1, 1], [1, -1]]), hadamard)
    return np.diag(signs) @ np.kron(hadamard / np.sqrt(times), core)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((24, 5), 0), ((5, 24), 1), ((2, 24, 3), 1)])
def test_rotated_is_a_product_with_a_matrix(shape: tuple[int, ...], axis: int, inverse: bool) -> None:
    rng = np.random.default_rng(0)
    array = rng.standard_normal(shape, np.float32)
    signs = rng.choice(np.float32([-1, 1]), 12)
    core = np.linalg.qr(rng.standard_normal((3, 3)))[0].astype(np.float32)
    turned = Rotated(InMemory(array), InMemory(signs), InMemory(core), axis, inverse)

    whole = np.kron(np.eye(2), _matrix(signs, core))
    expected = np.moveaxis(np.moveaxis(array, axis, -1) @ (whole.T if inverse else whole), -1, axis)
    assert np.allclose(turned.read(), expected, atol=1e-5)
    region = tuple(slice(1, size) if size < 9 else slice(7, 15) for size in shape)
    assert np.array_equal(turned.read(region), turned.read()[region])


def test_rotated_wants_whole_runs() -> None:
    with pytest.raises(ValueError, match="runs of 4 along axis 1"):
        Rotated(A, InMemory(np.ones(4, np.float32)), InMemory(np.ones((1, 1), np.float32)), 1)
    with pytest.raises(ValueError, match="is not 1 times a power of two"):
        Rotated(A, InMemory(np.ones(3, np.float32)), InMemory(np.ones((1, 1), np.float32)), 1)


def test_taken_is_another_order() -> None:
    places = np.array([2, 0, 2, 1])
    taken = Taken(A, InMemory(places), 1)
    assert np.array_equal(taken.read(), A.array[:, places])
    assert np.array_equal(taken.read((slice(1, 2), slice(1, 4))), A.array[1:2, places[1:4]])
    assert np.array_equal(Taken(A, InMemory(np.array([1, 0])), 0).read(), A.array[::-1])
    with pytest.raises(ValueError, match="axis 2"):
        Taken(A, InMemory(places), 2)


def test_every_bfloat16_is_widened_to_the_bits_that_ml_dtypes_gives() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256).view(ir.DataType.BFLOAT16.numpy())
    read = Cast(InMemory(every), ir.DataType.FLOAT).read((slice(0, 256), slice(1, 256)))
    np.testing.assert_array_equal(read.view(np.uint32), every[:, 1:].astype(np.float32).view(np.uint32))
