"""Our products of quantized weights against the definition, and against onnxruntime's kernel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphopt_targets.cpu.kernels import library, open_session, session_of
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.runtime import open_session as stock_session
from tests.targets.kernels._products import expected, product

pytestmark = pytest.mark.skipif(library() is None, reason="no compiler here, or no AVX512-VNNI")

KINDS = [(4, 32), (4, 64), (4, 128), (4, 256), (8, 128), (8, 256)]
CLOSE = 1e-5
"""Of the largest result: float32 sums of up to a few thousand terms, in another order."""


def normal(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def close(got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=CLOSE * np.abs(wanted).max())


def run(session: Any, x: Any) -> Any:
    return session.run(["y"], {"x": x})[0]


@pytest.mark.parametrize(("bits", "block"), KINDS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 40) | st.sampled_from([255, 256, 257, 300]),
    chunks=st.integers(1, 9) | st.sampled_from([16, 17, 33]),
    n=st.integers(1, 100) | st.sampled_from([128, 129, 260]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_results_are_the_definitions(
    bits: int, block: int, rows: int, chunks: int, n: int, bias: bool, seed: int
) -> None:
    k = chunks * max(block, 128)
    model = product(k, n, block, bits, bias=bias, seed=seed)
    x = normal(rows, k, seed=seed)

    wanted = expected(model, x)

    close(run(session_of(model), x), wanted)


@pytest.mark.parametrize(("bits", "block"), KINDS)
@pytest.mark.parametrize("rows", [1, 5, 12, 13, 30])
def test_onnxruntimes_kernel_says_the_same(bits: int, block: int, rows: int, tmp_path: Path) -> None:
    model = product(1024, 96, block, bits, bias=True)
    onnx.save(model, tmp_path / "model.onnx")
    x = normal(rows, 1024)

    stock = run(stock_session(tmp_path / "model.onnx"), x)
    own = run(open_session(tmp_path / "model.onnx"), x)

    close(own, stock)
    assert not np.array_equal(own, stock), "the sums are in another order: else both are one kernel"


@pytest.mark.parametrize("shape", [(256,), (0, 256), (2, 3, 256), (1, 1, 1, 256), (2, 0, 256)])
def test_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    model = product(256, 40, 128)
    x = normal(*shape)
    wanted = expected(model, x.reshape(-1, 256)) if x.size else np.zeros((0, 40))

    got = run(session_of(model), x)

    assert got.shape == (*shape[:-1], 40)
    if x.size:
        close(got.reshape(-1, 40), wanted)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_one_and_in_its_row(rows: int, bits: int, bad: float) -> None:
    model = product(512, 70, 128, bits)
    x = normal(rows + 1, 512)
    x[1:, 300] = bad
    wanted = expected(model, x[:1])

    got = run(session_of(model), x)

    close(got[:1], wanted)
    assert not np.isfinite(got[1:]).any()


@pytest.mark.parametrize("rows", [1, 20])
def test_zeros_and_the_smallest_numbers(rows: int) -> None:
    model = product(256, 20, 128)
    x = normal(rows, 256)
    x[:, :128] = 0
    x[:, 128:] *= np.float32(1e-30)
    wanted = expected(model, x)

    close(run(session_of(model), x), wanted)


@pytest.mark.parametrize("threads", [1, 3, 8])
@pytest.mark.parametrize("rows", [1, 10, 40])
def test_results_do_not_depend_on_threads(rows: int, threads: int) -> None:
    x = normal(rows, 1024)
    one = run(session_of(product(1024, 1000, 128), threads=1), x)

    np.testing.assert_array_equal(run(session_of(product(1024, 1000, 128), threads=threads), x), one)


def test_a_session_may_be_called_by_several_threads_at_once() -> None:
    model = product(2048, 512, 256)
    inputs = [normal(1 + seed % 20, 2048, seed=seed) for seed in range(40)]
    wanted = [expected(model, x) for x in inputs]
    session = session_of(model)

    with ThreadPoolExecutor(4) as pool:
        for got, right in zip(pool.map(lambda x: run(session, x), inputs), wanted, strict=True):
            close(got, right)


def test_rows_of_another_length_are_refused() -> None:
    session = session_of(product(256, 20, 128))

    with pytest.raises(Exception, match="rows are not of K elements"):
        run(session, normal(2, 128))
