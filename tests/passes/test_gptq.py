"""GPTQ beside rounding to nearest: never worse on what it was calibrated on, and exact in what it stores."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from graphopt_passes._forms import Form
from graphopt_passes._gptq import Hessian, rounded
from graphopt_passes._nbits import Packed, quantize_rows, unpacked
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.calibrate import CalibrationData, Gram
from graphopt.errors import BadInput
from graphopt.pipeline import Context, Memory
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests.passes._compressed import PRODUCT, TIED, built, normal

Array = np.ndarray[Any, Any]


def activations(rows: int, k: int, seed: int = 0, rank: int | None = None) -> Array:
    """Rows whose columns depend on each other and differ in size."""
    mixed = normal(rows, rank or k, seed=seed) @ normal(rank or k, k, seed=99)
    return np.asarray(mixed * np.geomspace(1, 0.05, k, dtype=np.float32) / np.float32(k**0.5))


def hessian(x: Array, held_out: Array | None = None) -> Hessian:
    held = x if held_out is None else held_out
    found = Hessian.of(x.T @ x, held.T @ held, lambda text: None)
    assert found is not None
    return found


def off(packed: Packed, form: Form, w: Array, x: Array) -> Array:
    """Squared error of each output over all of `x`."""
    return np.asarray(np.square(x @ (unpacked(packed, form.bits, w.shape[1]) - w).T).sum(0))


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 5),
    st.integers(3, 70),
    st.sampled_from(["2/16", "4/16", "4/32z", "2/64z", "8/16", "8/32z"]),
    st.integers(0, 3),
    st.integers(0, 1000),
)
def test_no_output_is_further_off_than_rounded_to_nearest(
    n: int, k: int, text: str, sweeps: int, seed: int
) -> None:
    w, x, held, form = normal(n, k, seed=seed), activations(40, k), activations(20, k, 1), Form.parse(text)

    made = rounded(w, form, hessian(x, held), sweeps)

    nearest = quantize_rows(w, form.bits, form.block, zeros=form.zeros)
    # The Hessian is damped, so that what the calibration data do not span is not free.
    size = 0.01 * np.square(x).sum(0).mean()

    def damped(packed: Packed) -> Array:
        away = unpacked(packed, form.bits, k) - w
        return off(packed, form, w, x) + np.asarray(size * np.square(away).sum(1))

    assert (damped(made) <= damped(nearest) * 1.001 + 1e-9).all()
    assert (off(made, form, w, held) <= off(nearest, form, w, held) * 1.001 + 1e-9).all()


@pytest.mark.parametrize(("text", "share"), [("2/64", 0.6), ("4/128", 0.5), ("4/32z", 0.5), ("8/64", 0.6)])
def test_outputs_are_much_less_off(text: str, share: float) -> None:
    w, x, form = normal(32, 256), activations(1024, 256), Form.parse(text)
    made = rounded(w, form, hessian(x[:768], x[768:]), 0)

    nearest = quantize_rows(w, form.bits, form.block, zeros=form.zeros)
    new = activations(512, 256, seed=5)
    assert off(made, form, w, new).sum() < share * off(nearest, form, w, new).sum()


def test_sweeps_lower_the_error_further() -> None:
    w, x, form = normal(32, 256), activations(1024, 256), Form.parse("4/64")
    h = hessian(x)

    errors = [off(rounded(w, form, h, sweeps), form, w, x).sum() for sweeps in (0, 1, 2)]

    assert errors[2] < errors[1] < errors[0]


def test_it_rounds_as_the_paper_does() -> None:
    """Column after column, with the inverse of what is left of the Hessian (Frantar et al. 2022, step 3)."""
    k, form = 48, Form.parse("4/16")
    w, x = normal(3, k), activations(500, k)
    h = hessian(x)
    start = quantize_rows(w, 4, 16, importance=h.matrix.diagonal().copy())
    scales = np.repeat(start.scales, 16, 1)
    left, todo, levels = w.astype(np.float64), list(h.order), np.zeros((3, k))
    while todo:
        inverse = np.linalg.inv(h.matrix.astype(np.float64)[np.ix_(todo, todo)])
        column = todo[0]
        levels[:, column] = np.clip(np.rint(left[:, column] / scales[:, column]), -8, 7)
        away = (left[:, column] - levels[:, column] * scales[:, column]) / inverse[0, 0]
        left[:, todo] -= away[:, None] * inverse[0]
        todo = todo[1:]

    made = rounded(w, form, h, 0)

    np.testing.assert_allclose(unpacked(made, 4, k), levels * scales, rtol=1e-5, atol=1e-6)


def test_a_singular_gram_matrix_is_damped_and_says_so() -> None:
    said: list[str] = []
    x = activations(8, 64) * np.float32(1e3)
    x[:, 5:9] = 0
    found = Hessian.of(x.T @ x, x.T @ x, said.append, least_damping=1e-9)

    assert found is not None
    assert found.damping > 1e-9
    assert said[0] == "its activations' Gram matrix is not positive definite with a damping of 1e-09"
    w = normal(4, 64)
    assert np.isfinite(unpacked(rounded(w, Form(4, 32), found, 2), 4, 64)).all()


def test_without_activations_there_is_no_hessian() -> None:
    said: list[str] = []
    nothing = np.zeros((16, 16), np.float32)

    assert Hessian.of(nothing - np.eye(16, dtype=np.float32), nothing, said.append) is None
    assert said[-1] == "no damping makes it so: rounded to nearest"


def test_rows_that_are_worse_on_what_is_held_out_stay_rounded_to_nearest() -> None:
    w, x, form = normal(16, 64), activations(64, 64, rank=4), Form.parse("4/32")
    elsewhere = activations(256, 64, seed=7)[:, ::-1]

    made = rounded(w, form, hessian(x, np.ascontiguousarray(elsewhere)), 2)

    nearest = quantize_rows(w, 4, 32)
    same = (made.weight == nearest.weight).all((1, 2))
    assert same.any()
    assert (off(made, form, w, elsewhere) <= off(nearest, form, w, elsewhere) * 1.0001).all()


THREADS = """
import hashlib, sys
sys.path.insert(0, ".")
from graphopt_passes._forms import Form
from graphopt_passes._gptq import rounded_tiles
from graphopt.ir import InMemory
from tests.passes.test_gptq import hessian_of_fixed, normal
made = rounded_tiles(InMemory(normal(1500, 200)), Form(4, 32), hessian_of_fixed(), 1)
print(hashlib.sha256(made.weight.tobytes() + made.scales.tobytes()).hexdigest())
"""


def hessian_of_fixed() -> Hessian:
    matrix = np.einsum("ij,ik->jk", activations(50, 200), activations(50, 200))
    found = Hessian.of(matrix, matrix, lambda text: None)
    assert found is not None
    return found


def test_the_number_of_threads_does_not_matter() -> None:
    made = []
    for threads in ("1", "3"):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        script = [sys.executable, "-c", THREADS]
        made.append(
            subprocess.run(script, env=environment, capture_output=True, check=True, text=True).stdout
        )
    assert made[0] == made[1]


def calibrated(
    w: Array, calls: list[Array], source: str = PRODUCT, memory: Memory | None = None, **options: Any
) -> tuple[Any, Context]:
    n, k = w.shape if source == TIED else w.shape[::-1]
    model = built(source, {"w": w}, n=n, k=k)
    feeds = tuple({"x": x[None]} for x in calls)
    data = CalibrationData("test", "digest", feeds, sum(map(len, calls)))
    context = Context(model, calibration=data if calls else None, memory=memory)
    step = Step("quantize-weights", {"smallest": 1, "block_size": 32, "rounding": "gptq", **options})
    run_recipe(model, Recipe("test", "", Budget(), (step,)), context)
    return model, context


def packed_in(model: Any) -> Packed:
    weight, scales = (model.graph.initializers[f"w/{part}"].const_value.numpy() for part in ("q4", "scales"))
    return Packed(weight, scales)


def test_the_pass_rounds_by_what_the_graph_multiplies_with() -> None:
    w = normal(64, 48)
    calls = [activations(100, 64, seed) for seed in range(8)]

    model, context = calibrated(w, calls)

    seen, held = Gram(64), Gram(64)
    for index, call in enumerate(calls):
        (seen if index < 6 else held).add(call)
    whole = Hessian.of(seen.matrix, held.matrix, lambda text: None)
    assert whole is not None
    expected = rounded(np.ascontiguousarray(w.T), Form(4, 32), whole, 2)
    np.testing.assert_array_equal(packed_in(model).weight, expected.weight)
    np.testing.assert_array_equal(packed_in(model).scales, expected.scales)
    assert not [note for note in context.notes if "nearest" in note or "wanted" in note]


def test_without_calibration_data_it_rounds_to_nearest_and_says_so() -> None:
    w = normal(64, 48)
    model, context = calibrated(w, [])

    np.testing.assert_array_equal(packed_in(model).weight, quantize_rows(w.T.copy(), 4, 32).weight)
    assert context.notes == [
        "quantize-weights: weights are rounded to nearest: there is nothing to calibrate on"
    ]


class _Kept(dict[str, Any]):
    """What an interrupted run has left."""

    def recall(self, key: str, *, for_any_options: bool) -> dict[str, Array] | None:
        return self.get(key)

    def keep(self, key: str, arrays: Any, *, for_any_options: bool) -> None:
        self[key] = dict(arrays)


def test_a_weight_that_was_rounded_is_not_rounded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    w, calls, memory = normal(64, 48), [activations(100, 64, seed) for seed in range(8)], _Kept()
    first, _ = calibrated(w, calls, memory=memory)
    assert len(memory) == 1

    monkeypatch.setattr(Hessian, "of", lambda *_, **__: pytest.fail("it was collected again"))
    second, _ = calibrated(w, calls, memory=memory)

    np.testing.assert_array_equal(packed_in(second).weight, packed_in(first).weight)
    np.testing.assert_array_equal(packed_in(second).scales, packed_in(first).scales)


def test_too_little_to_calibrate_on_is_said() -> None:
    _, context = calibrated(normal(64, 48), [activations(10, 64)] * 3)

    assert context.notes[1:] == ["quantize-weights: x: 30 rows to calibrate on, and 85 are wanted"]


def test_far_too_little_is_refused_and_says_how_much_is_needed() -> None:
    with pytest.raises(
        BadInput, match=r"quantize-weights \(GPTQ of .* 64 columns\) needs 16 tokens, it has 9"
    ):
        calibrated(normal(64, 48), [activations(3, 64)] * 3)


def test_activations_that_are_not_finite_are_refused() -> None:
    calls = [activations(100, 64, seed) for seed in range(4)]
    calls[2][5, 5] = np.nan
    with pytest.raises(BadInput, match="finite"):
        calibrated(normal(64, 48), calls)
