"""Our products of quantized weights against the definition, and against onnxruntime's kernel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphopt_targets.cpu.kernels import open_session, session_of
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.runtime import open_session as stock_session
from tests.targets.kernels._forms import THREE, marks
from tests.targets.kernels._products import exact, expected, product

pytestmark = marks(THREE)

KINDS = [(bits, block) for bits in (2, 4, 8) for block in (32, 64, 128, 256)]
IN_FLOAT = (2, 256)
"""Which of them onnxruntime 1.32 computes in float32, whatever accuracy_level says."""

CLOSE = 1e-5
"""Of the largest result: float32 sums of up to a few thousand terms, in another order."""

FINER = 50
"""How much less is lost of x at least: 258 times, but for what float32 sums lose."""


def normal(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def close(got: Any, wanted: Any, of: float = 0) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=CLOSE * max(of, np.abs(wanted).max()))


def run(session: Any, x: Any) -> Any:
    return session.run(["y"], {"x": x})[0]


@pytest.mark.parametrize(("bits", "block"), KINDS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 40) | st.sampled_from([64, 257, 513]),
    k=st.integers(1, 40).map(lambda i: 32 * i) | st.integers(1, 4200),
    n=st.integers(1, 100) | st.sampled_from([128, 129, 260]),
    zeros=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_results_are_the_definitions(
    bits: int, block: int, rows: int, k: int, n: int, zeros: bool, bias: bool, seed: int
) -> None:
    model = product(k, n, block, bits, zeros=zeros, bias=bias, seed=seed)
    x = normal(rows, k, seed=seed)

    wanted = expected(model, x)

    close(run(session_of(model), x), wanted, np.abs(x).max())  # all terms of few may cancel


@pytest.mark.parametrize(("bits", "block"), [kind for kind in KINDS if kind != IN_FLOAT and kind[0] != 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("k", [1024, 352])
def test_onnxruntimes_kernel_says_the_same(
    bits: int, block: int, zeros: bool, k: int, tmp_path: Path
) -> None:
    model = product(k, 97, block, bits, zeros=zeros, bias=True)
    onnx.save(model, tmp_path / "model.onnx")
    stock, own = stock_session(tmp_path / "model.onnx"), open_session(tmp_path / "model.onnx")

    for rows in (1, 3, 6, 12, 16, 17, 64):
        x = normal(rows, k)
        got, wanted = run(own, x), run(stock, x)

        far = np.abs(got - wanted).max(1) > CLOSE * np.abs(wanted).max()
        assert far.sum() <= rows // 30, "a number of x between two integers may be rounded either way"
        assert not np.array_equal(got, wanted), "the sums are in another order: else both are one kernel"


@pytest.mark.parametrize("block", [block for bits, block in KINDS if bits == 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("rows", [1, 6, 20])
def test_beside_8_bits_ours_rounds_x_to_int16_and_onnxruntimes_to_int8(
    block: int, zeros: bool, rows: int, tmp_path: Path
) -> None:
    model = product(1024, 97, block, 8, zeros=zeros)
    onnx.save(model, tmp_path / "model.onnx")
    x = normal(rows, 1024)
    wanted = exact(model, x)
    stock, own = stock_session(tmp_path / "model.onnx"), open_session(tmp_path / "model.onnx")

    stock_error, own_error = (np.square(run(session, x) - wanted).mean() ** 0.5 for session in (stock, own))

    assert own_error < stock_error / FINER


@pytest.mark.parametrize("zeros", [False, True])
def test_onnxruntimes_kernel_does_not_round_x_of_2_bits_in_blocks_of_256(zeros: bool, tmp_path: Path) -> None:
    bits, block = IN_FLOAT
    onnx.save(product(1024, 97, block, bits, zeros=zeros), tmp_path / "model.onnx")
    onnx.save(product(1024, 97, block, bits, zeros=zeros, accuracy_level=1), tmp_path / "level1.onnx")
    x = normal(3, 1024)

    close(run(stock_session(tmp_path / "model.onnx"), x), run(stock_session(tmp_path / "level1.onnx"), x))


@pytest.mark.parametrize("shape", [(256,), (0, 256), (2, 3, 256), (1, 1, 1, 256), (2, 0, 256)])
def test_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    model = product(256, 40, 128)
    x = normal(*shape)
    wanted = expected(model, x.reshape(-1, 256)) if x.size else np.zeros((0, 40))

    got = run(session_of(model), x)

    assert got.shape == (*shape[:-1], 40)
    if x.size:
        close(got.reshape(-1, 40), wanted)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_one_and_in_its_row(rows: int, bits: int, zeros: bool, bad: float) -> None:
    model = product(512, 70, 128, bits, zeros=zeros)
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
