"""Rounding in C gives the bits that its definition in numpy gives."""

from __future__ import annotations

import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from graphopt_passes import _nbits, _nearest
from graphopt_passes._nbits import NotFinite, Packed, quantize_rows

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def compiled() -> None:
    """Wherever there is a compiler for it, it has to be there."""
    if _nearest._function() is None:
        assert platform.system() != "Linux" or platform.machine() != "x86_64" or not shutil.which("gcc")
        pytest.skip("it was not compiled here")


def defined(rows: Array, bits: int, block: int, *, search: bool = True) -> Packed:
    return _nbits._quantized(rows, bits, block, search, False, None)


def assert_same_bits(found: Packed, expected: Packed) -> None:
    assert found.zeros is expected.zeros is None
    np.testing.assert_array_equal(found.weight, expected.weight)
    np.testing.assert_array_equal(found.scales.view(np.uint32), expected.scales.view(np.uint32))


def odd_rows(count: int, width: int) -> Array:
    """Normal entries, and among them zeros of both signs, ties, tiny, huge and equal ones."""
    rng = np.random.default_rng(count * width)
    rows = rng.standard_normal((count, width), np.float32)
    rows[0, : width // 2] = -0.0
    rows[1, ::2] = np.round(rows[1, ::2] * 2) / 2
    rows[2] *= np.float32(1e-42)
    rows[3] *= np.float32(3e37)
    rows[4] = 0.5
    rows[5, ::3] = 0
    return rows


@pytest.mark.parametrize("search", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("block", [16, 32, 64, 128, 256])
def test_bits_are_those_of_the_definition(bits: int, block: int, search: bool) -> None:
    for rows in (odd_rows(6, 300), odd_rows(9, 256), odd_rows(7, 24)):
        assert_same_bits(
            quantize_rows(rows, bits, block, search=search), defined(rows, bits, block, search=search)
        )


def test_a_single_block_is_summed_in_the_same_order() -> None:
    for seed in range(20):
        rows = np.random.default_rng(seed).standard_normal((1, 128), np.float32)
        assert_same_bits(quantize_rows(rows, 4, 128), defined(rows, 4, 128))


def test_rows_need_not_lie_together() -> None:
    rows = odd_rows(64, 96).T
    assert_same_bits(quantize_rows(rows, 4, 32), defined(rows, 4, 32))


def test_bits_are_the_same_on_several_threads() -> None:
    rows = odd_rows(64, 512)
    expected = defined(rows, 4, 128)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: quantize_rows(rows, 4, 128), range(16)):
            assert_same_bits(found, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 17, 63])
def test_what_is_not_finite_is_refused(value: float, place: int) -> None:
    rows = np.ones((3, 64), np.float32)
    rows[2, place] = value
    with pytest.raises(NotFinite):
        quantize_rows(rows, 4, 32)


def test_another_factor_gives_other_bits() -> None:
    rows = odd_rows(64, 300)
    inverses = np.array([1 / 0.7], np.float32)
    made = _nearest.round_to_nearest(rows, 4, 32, inverses)
    assert made is not None
    assert not np.array_equal(made[1], defined(rows, 4, 32).scales)


def test_other_blocks_are_left_to_the_definition() -> None:
    rows, none = np.ones((2, 24), np.float32), np.zeros(0, np.float32)
    assert _nearest.round_to_nearest(rows, 4, 8, none) is None
    assert_same_bits(quantize_rows(rows, 4, 8), defined(rows, 4, 8))
