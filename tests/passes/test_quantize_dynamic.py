"""quantize-dynamic: the arithmetic it stands for, and the kernel that onnxruntime makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.passes._compressed import PRODUCT, TIED, Compressed, built, normal

NAME = "quantize-dynamic"
SHARED = """<ir_version: 10, opset_import: ["" : 23]>
g (float[B,S,%(k)d] x) => (float[B,S,%(n)d] y, float[B,S,%(n)d] z)
<float[%(k)d,%(n)d] w = ["location": "absent"], float[%(n)d,%(k)d] v = ["location": "absent"],
 float[%(n)d] b = ["location": "absent"]>
{ p = MatMul(x, w) y = Add(p, b) t = Transpose<perm = [1, 0]>(v) z = MatMul(x, t) }
"""


def in_integers(x: np.ndarray, w: np.ndarray, bits: int = 8) -> np.ndarray:
    """The product as the operators' specifications define it, in float64."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-low / step), 0, 255)
    levels = np.clip(np.rint(x / step) + zero, 0, 255) - zero
    largest = 2 ** (bits - 1) - 1
    scales = np.abs(w).max(0) / np.float32(largest)
    return np.asarray(levels.astype(np.float64) @ np.rint(w / scales) * (step * scales))


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("bits", [7, 8])
def test_the_product_is_that_of_the_integers(tmp_path: Path, bits: int, optimized: bool) -> None:
    w = normal(96, 40)
    made = Compressed(built(PRODUCT, {"w": w}, n=40, k=96), NAME, tmp_path, bits=bits)

    for x in (normal(2, 3, 96, seed=1), np.abs(normal(1, 7, 96, seed=2))):
        (y,) = made.run(optimized=optimized, x=x)

        np.testing.assert_allclose(y, in_integers(x, w, bits), rtol=1e-5, atol=1e-4)
        assert 1e-3 < np.abs(y - x @ w).max() / np.abs(x @ w).max() < 0.03


@pytest.mark.parametrize("optimized", [False, True])
def test_a_scale_for_each_row_makes_rows_of_any_size_equally_good(tmp_path: Path, optimized: bool) -> None:
    w = normal(96, 40)
    made = Compressed(built(PRODUCT, {"w": w}, n=40, k=96), NAME, tmp_path, scale="row")
    x = normal(2, 3, 96, seed=1) * np.array([1e-3, 1.0, 1e4], np.float32)[:, None]
    x[0, 0] = 0

    (y,) = made.run(optimized=optimized, x=x)

    largest = np.maximum(np.abs(x).max(-1, keepdims=True), 1e-30)
    np.testing.assert_allclose(y, in_integers(x / largest, w) * largest, rtol=1e-5, atol=1e-6)
    error = np.abs(y - x @ w).max(-1) / np.maximum(np.abs(x @ w).max(-1), 1e-30)
    assert error.max() < 0.02
    assert not y[0, 0].any()


def test_one_activation_is_quantized_once_and_products_are_fused(tmp_path: Path) -> None:
    weights = {"w": normal(64, 32), "v": normal(32, 64, seed=1), "b": normal(32, seed=2)}
    made = Compressed(built(SHARED, weights, n=32, k=64), NAME, tmp_path)
    x = normal(2, 3, 64, seed=3)

    y, z = made.run(x=x)

    np.testing.assert_allclose(y, in_integers(x, weights["w"]) + weights["b"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(z, in_integers(x, weights["v"].T), rtol=1e-5, atol=1e-4)
    assert made.operators["DynamicQuantizeLinear"] == 1
    assert made.as_loaded() == {"DynamicQuantizeLinear": 1, "MatMulIntegerToFloat": 2}


def test_a_product_of_its_own_becomes_one_kernel(tmp_path: Path) -> None:
    made = Compressed(built(PRODUCT, {"w": normal(64, 32)}, n=32, k=64), NAME, tmp_path)

    assert made.as_loaded() == {"DynamicQuantizeMatMul": 1}


def test_a_scale_for_each_row_leaves_the_kernel_as_it_is(tmp_path: Path) -> None:
    weights = {"w": normal(64, 32)}
    made = Compressed(built(PRODUCT, weights, n=32, k=64), NAME, tmp_path, scale="row")

    loaded = {"Abs": 1, "ReduceMax": 1, "Max": 1, "Div": 1, "DynamicQuantizeMatMul": 1, "Mul": 1}
    assert made.as_loaded() == loaded


def test_a_weight_takes_a_byte_an_entry_and_a_scale_an_output(tmp_path: Path) -> None:
    made = Compressed(built(PRODUCT, {"w": normal(64, 1024)}, n=1024, k=64), NAME, tmp_path)

    assert made.stored == 64 * 1024 + 4 * 1024
    assert made.initializer("w/int8").shape == (64, 1024)


def test_an_embedding_stays_in_float(tmp_path: Path) -> None:
    w, ids = normal(64, 32), np.array([[1, 2, 63]])
    made = Compressed(built(TIED, {"w": w}, n=64, k=32), NAME, tmp_path)

    x, _ = made.run(ids=ids, h=normal(1, 3, 32))

    np.testing.assert_array_equal(x, w[ids])


def test_outputs_whose_weights_are_zero_are_zero(tmp_path: Path) -> None:
    w = normal(64, 32)
    w[:, 3] = 0
    made = Compressed(built(PRODUCT, {"w": w}, n=32, k=64), NAME, tmp_path)

    (y,) = made.run(x=normal(1, 4, 64))

    assert not y[..., 3].any()
    assert np.isfinite(y).all()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    w = normal(64, 32)
    w[5, 5] = value
    made = Compressed(built(PRODUCT, {"w": w}, n=32, k=64), NAME, tmp_path)

    assert made.reasons == ["weight w has entries that are not finite"]
    assert made.operators == {"MatMul": 1}
