"""The kernel behind quantize-weights: what it stores, how far off it is, and where it breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes._forms import Form
from graphopt_passes._nbits import NotFinite, Packed, quantize_rows, quantized_tiles, unpacked
from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits

from graphopt.ir import Cast, Concatenated, Expr, FileRange, InMemory, Transposed

Array = np.ndarray[Any, Any]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def error(rows: Array, bits: int, block: int, *, search: bool) -> float:
    packed = quantize_rows(rows, bits, block, search=search)
    return float(np.mean((unpacked(packed, bits, rows.shape[1]) - rows) ** 2))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("width", "block"), [(96, 32), (128, 128), (512, 256), (64, 16)])
def test_bytes_and_scales_are_those_of_onnxruntime(bits: int, width: int, block: int) -> None:
    rows, blocks = normal(24, width), width // block
    weight = np.zeros((24, blocks, block * bits // 8), np.uint8)
    scales = np.zeros(24 * blocks, np.float32)
    points = np.zeros((24, (blocks * bits + 7) // 8), np.uint8)
    quantizer = {4: quantize_matmul_4bits, 8: quantize_matmul_8bits}[bits]
    quantizer(weight, np.ascontiguousarray(rows.T), scales, points, block, 24, width, True)

    packed = quantize_rows(rows, bits, block, search=False)

    np.testing.assert_array_equal(packed.weight, weight)
    np.testing.assert_array_equal(packed.scales, scales.reshape(24, blocks))


@pytest.mark.parametrize("bits", [4, 8])
def test_the_largest_entry_is_exact_and_none_is_off_by_more_than_a_step(bits: int) -> None:
    rows = normal(16, 64)
    packed = quantize_rows(rows, bits, 32, search=False)
    back = unpacked(packed, bits, 64)

    largest = np.abs(rows).reshape(16, 2, 32).argmax(-1)[..., None]
    np.testing.assert_allclose(
        np.take_along_axis(back.reshape(16, 2, 32), largest, -1),
        np.take_along_axis(rows.reshape(16, 2, 32), largest, -1),
        rtol=1e-6,
    )
    # Half a step, but for the end that has one level less.
    assert (np.abs(back - rows).reshape(16, 2, 32) <= np.abs(packed.scales)[..., None] * 1.0001).all()


def test_the_sign_of_the_scale_puts_the_extreme_on_the_end_with_one_more_level() -> None:
    rows = np.array([[8.0, -7.0, 1.0, 0.0] * 4, [-8.0, 7.0, 1.0, 0.0] * 4], np.float32)
    packed = quantize_rows(rows, 4, 16, search=False)

    np.testing.assert_array_equal(packed.scales, [[-1.0], [1.0]])
    np.testing.assert_array_equal(unpacked(packed, 4, 16), rows)


@pytest.mark.parametrize("block", [32, 128])
def test_a_search_lowers_the_error_of_4_bits(block: int) -> None:
    rows = normal(64, 512)

    assert error(rows, 4, block, search=True) < 0.93 * error(rows, 4, block, search=False)


def test_a_search_never_makes_a_block_worse() -> None:
    rows = normal(256, 32) ** 3

    def squared(search: bool) -> Array:
        packed = quantize_rows(rows, 4, 32, search=search)
        return np.asarray(((unpacked(packed, 4, 32) - rows) ** 2).sum(1))

    assert (squared(True) <= squared(False) * 1.0001).all()


def test_a_search_finds_what_an_exhaustive_one_does() -> None:
    rows = normal(64, 128)
    found = np.mean((unpacked(quantize_rows(rows, 4, 128), 4, 128) - rows) ** 2)
    extreme = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1) / -8
    best = np.full(64, np.inf)
    for factor in np.linspace(0.6, 1.3, 200):
        scale = extreme * factor
        off = np.clip(np.rint(rows / scale), -8, 7) * scale - rows
        best = np.minimum(best, (off**2).sum(1))

    assert found < 1.02 * best.sum() / rows.size


@pytest.mark.parametrize("bits", [4, 8])
def test_a_width_that_is_no_whole_number_of_blocks_is_padded(bits: int) -> None:
    rows = normal(5, 40)
    packed = quantize_rows(rows, bits, 32)

    assert packed.weight.shape == (5, 2, 32 * bits // 8)
    padded = quantize_rows(np.pad(rows, ((0, 0), (0, 24))), bits, 32)
    np.testing.assert_array_equal(packed.weight, padded.weight)
    assert unpacked(packed, bits, 40).shape == (5, 40)


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("value", [0.0, 1e-42, -1e-38])
def test_blocks_without_magnitude_become_zeros(value: float, search: bool) -> None:
    rows = np.full((2, 32), value, np.float32)
    packed = quantize_rows(rows, 4, 32, search=search)

    assert np.isfinite(packed.scales).all()
    np.testing.assert_allclose(unpacked(packed, 4, 32), 0, atol=1e-37)


def test_a_weight_of_one_block_is_not_written_to() -> None:
    rows = normal(1, 16)
    before = rows.copy()
    quantize_rows(rows, 4, 16)
    np.testing.assert_array_equal(rows, before)


def test_huge_weights_stay_finite() -> None:
    rows = normal(2, 32) * np.float32(1e37)

    np.testing.assert_allclose(unpacked(quantize_rows(rows, 8, 32), 8, 32), rows, atol=2e35)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_entries_that_are_not_finite_are_refused(value: float) -> None:
    rows = normal(4, 64)
    rows[2, 40] = value
    with pytest.raises(NotFinite):
        quantize_rows(rows, 4, 32)


def test_tiles_add_up_whatever_the_weight_is_made_of(tmp_path: Path) -> None:
    """A packed projection: two ranges of a bf16 file and an array that lies the other way round."""
    stored = normal(70, 48).astype(ml_dtypes.bfloat16)
    (tmp_path / "w").write_bytes(stored.tobytes())

    def part(first: int, last: int) -> Expr:
        kind = ir.DataType.BFLOAT16
        raw = FileRange(tmp_path / "w", first * 96, (last - first) * 96, kind, (last - first, 48))
        return Cast(raw, ir.DataType.FLOAT)

    other = normal(48, 30, seed=1)
    columns = Concatenated(
        (Transposed(part(0, 20), (1, 0)), Transposed(part(33, 70), (1, 0)), InMemory(other)), 1
    )
    rows = np.concatenate([stored[:20], stored[33:70], other.T]).astype(np.float32)

    found = list(quantized_tiles(Transposed(columns, (1, 0)), Form(4, 16), search=True))

    expected = quantize_rows(rows, 4, 16)
    np.testing.assert_array_equal(np.concatenate([p.weight for p in found]), expected.weight)
    np.testing.assert_array_equal(np.concatenate([p.scales for p in found]), expected.scales)


def test_many_tiles_come_in_order() -> None:
    rows = normal(3000, 1024)
    found = list(quantized_tiles(InMemory(rows), Form(8, 128), search=False))

    assert len(found) > 2
    whole = Packed(np.concatenate([p.weight for p in found]), np.concatenate([p.scales for p in found]))
    np.testing.assert_allclose(unpacked(whole, 8, 1024), rows, atol=0.05)
