"""store-fp16: what is rounded, and what onnxruntime is left with once it has loaded."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tests.passes._compressed import PRODUCT, TIED, Compressed, built, normal

NAME = "store-fp16"


@pytest.mark.parametrize("optimized", [False, True])
def test_weights_are_rounded_and_nothing_else(tmp_path: Path, optimized: bool) -> None:
    w, x = normal(96, 40), normal(2, 3, 96, seed=1)
    made = Compressed(built(PRODUCT, {"w": w}, n=40, k=96), NAME, tmp_path)

    (y,) = made.run(optimized=optimized, x=x)

    np.testing.assert_allclose(y, x @ w.astype(np.float16).astype(np.float32), rtol=1e-5, atol=1e-5)
    assert np.abs(y - x @ w).max() > 1e-4


def test_the_cast_is_gone_once_loaded(tmp_path: Path) -> None:
    made = Compressed(built(PRODUCT, {"w": normal(64, 32)}, n=32, k=64), NAME, tmp_path)

    assert made.operators == {"Cast": 1, "MatMul": 1}
    assert made.as_loaded() == {"MatMul": 1}


def test_a_tied_embedding_is_stored_once_and_only_its_rows_are_widened(tmp_path: Path) -> None:
    w, ids = normal(256, 64), np.array([[3, 0, 255]])
    made = Compressed(built(TIED, {"w": w}, n=256, k=64), NAME, tmp_path)

    x, _ = made.run(ids=ids, h=normal(1, 3, 64))

    np.testing.assert_array_equal(x, w.astype(np.float16).astype(np.float32)[ids])
    assert made.stored == 2 * w.size
    assert made.as_loaded() == {"Gather": 1, "Cast": 1, "MatMul": 1}


def test_weights_from_bfloat16_lose_nothing(tmp_path: Path) -> None:
    w = normal(96, 40).astype(ml_dtypes.bfloat16).astype(np.float32)
    x = normal(2, 3, 96, seed=1)
    before = Compressed(built(PRODUCT, {"w": w}, n=40, k=96), NAME, tmp_path, smallest=1 << 20)
    (expected,) = before.run(x=x)

    made = Compressed(built(PRODUCT, {"w": w}, n=40, k=96), NAME, tmp_path)

    np.testing.assert_array_equal(made.run(x=x)[0], expected)


@pytest.mark.parametrize("value", [65520.0, -1e30, np.inf, np.nan])
def test_entries_beyond_the_range_are_refused(tmp_path: Path, value: float) -> None:
    w = normal(64, 32)
    w[5, 5] = value
    made = Compressed(built(PRODUCT, {"w": w}, n=32, k=64), NAME, tmp_path)

    assert made.reasons == ["it has entries beyond float16's range"]
    assert made.operators == {"MatMul": 1}


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (1e-6, "its entries, about 1e-06, are too small for float16, whose steps are 6e-08 there"),
        (1e-30, "its entries, about 1e-30, are too small for float16, whose steps are 6e-08 there"),
        (1e-4, None),
        (0.0, None),
    ],
)
def test_a_weight_that_rounding_would_damage_stays(tmp_path: Path, size: float, reason: str | None) -> None:
    w = np.float32(size) * normal(64, 32)
    made = Compressed(built(PRODUCT, {"w": w}, n=32, k=64), NAME, tmp_path)

    assert made.reasons == ([] if reason is None else [reason])
    assert made.operators["Cast"] == (reason is None)
    noise = w.astype(np.float64) - w.astype(np.float16)
    assert (np.sum(noise**2) > 1e-6 * np.sum(np.float64(w) ** 2)) == (reason is not None)


def test_small_weights_stay(tmp_path: Path) -> None:
    made = Compressed(built(PRODUCT, {"w": normal(32, 32)}, n=32, k=32), NAME, tmp_path, smallest=4097)

    assert made.operators == {"MatMul": 1}
