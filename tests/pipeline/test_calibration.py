"""Calibration: how much is drawn, what is held while a graph is walked, and what a changed value does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.calibrate import CalibrationData
from graphopt.calibrate._piece import Piece
from graphopt.families import Case, InputDomain
from graphopt.ir import infer_types, parse
from graphopt.pipeline import Calibration, Context
from tests.passes._compressed import normal
from tests.pipeline._cases import Cases

HEAD = '<ir_version: 10, opset_import: ["" : 23]>'


def model(body: str, inputs: str = "float[B,4] x", output: str = "float[B,4] y") -> ir.Model:
    return parse(f"{HEAD} g ({inputs}) => ({output}) {{ {body} }}")


def test_calibration_measures_values_and_what_a_change_of_one_does() -> None:
    given = model("a = Tanh(x)  y = Neg(a)")
    infer_types(given)
    a = given.graph[0].outputs[0]
    calibration = Calibration.of(Context(given, domain=Cases()), a)
    assert isinstance(calibration, Calibration)
    (array,) = calibration.values([a])

    assert array.shape == (64, 4)
    assert -1 < array.min() < 0
    assert calibration.damage(a, array) < 1e-9
    assert 0.01 < calibration.damage(a, np.ones_like(array)) < 1


class Clips(InputDomain):
    """Two recordings of as many `rows` each, and how many were drawn."""

    def __init__(self, rows: int) -> None:
        self.rows, self.drawn = rows, 0

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        self.drawn += 1
        yield Case("two", {"x": rng.standard_normal((2, self.rows, 4)).astype(np.float32)}, {})


@pytest.mark.parametrize(
    ("rows", "samples", "draws"), [(2000, 1, 1), (576, 1, 1), (300, 2, 1), (100, 6, 3), (6, 64, 32)]
)
def test_calibration_is_on_as_many_samples_as_make_enough_rows(rows: int, samples: int, draws: int) -> None:
    given = model("y = Neg(x)", f"float[B,{rows},4] x", f"float[B,{rows},4] y")
    domain = Clips(rows)
    x = given.graph.inputs[0]
    calibration = Calibration.of(Context(given, domain=domain), x)
    assert isinstance(calibration, Calibration)

    (array,) = calibration.values([x])

    assert array.shape == (samples, rows, 4)
    assert domain.drawn == draws


def test_calibration_holds_only_what_is_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deep graph is walked with as few values in hand as a shallow one, and each node runs once."""
    depth, made = 40, list[tuple[int, int]]()
    inner = Piece.run

    def run(piece: Piece, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        held = sum(array.nbytes for array in feeds.values())
        found = inner(piece, feeds)
        made.append((held, sum(array.nbytes for array in found)))
        return found

    monkeypatch.setattr(Piece, "run", run)
    body = "".join(f"v{i + 1} = Tanh(v{i})  " for i in range(depth))
    given = model(f"v0 = Neg(x)  {body} y = Add(v{depth}, x)", "float[B,4,4] x", "float[B,4,4] y")
    values = [node.outputs[0] for node in given.graph][:-1]
    calibration = Calibration(given.graph, {"x": np.ones((1, 4, 4), np.float32)})

    for value, array in zip(values, calibration.values(values), strict=True):
        assert calibration.damage(value, array).max() < 1e-6

    assert max(held for held, _ in made) <= 3 * 64
    assert max(new for _, new in made) <= 2 * 64
    assert len(made) == 2 * len(values) + 1


def test_damage_is_of_each_output_in_floats() -> None:
    given = model(
        "a = Tanh(x)  y = Neg(a)  z = Exp(x)  i = ArgMax(a)",
        output="float[B,4] y, float[B,4] z, int64[1,4] i",
    )
    infer_types(given)
    a = given.graph[0].outputs[0]
    calibration = Calibration(given.graph, {"x": normal(3, 4)})
    (array,) = calibration.values([a])

    damage = calibration.damage(a, -array)

    np.testing.assert_allclose(damage, [2, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "sizes", "rows"), [("B", (5, 5), 580), ("B", (5, 3), 320), ("64", (5, 5), 320)]
)
def test_where_nobody_says_what_is_legal_it_is_what_there_is_to_calibrate_on(
    batch: str, sizes: tuple[int, int], rows: int
) -> None:
    """Samples of one size are put together where their number is free; a fixed call is taken as it is."""
    given = model("y = Neg(x)", f"float[{batch},S,4] x", f"float[{batch},S,4] y")
    x = given.graph.inputs[0]
    calls = tuple({"x": np.full((64, size, 4), size, np.float32)} for size in sizes)
    context = Context(given, calibration=CalibrationData("some", "digest", calls, 128, unit="samples"))

    calibration = Calibration.of(context, x)

    assert isinstance(calibration, Calibration)
    (array,) = calibration.values([x])
    assert array.size // 4 == rows
    assert (array == 5).all()
    assert context.calibrated is not None


def test_calibration_needs_legal_inputs_and_no_cache() -> None:
    given = model("y = Neg(x)")
    assert "nothing is known" in str(Calibration.of(Context(given), given.graph.outputs[0]))
    cached = model("y = Neg(past)", "float[B,2,P,4] past", "float[B,2,P,4] y")
    around = Context(cached, domain=Cases(), states={"past": "y"})
    assert "a cache" in str(Calibration.of(around, cached.graph.outputs[0]))
