"""quantize-recurrent: how close it is to the LSTM in floats, and what it is in 7 bits."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import infer_types, parse
from graphopt.pipeline import Context
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.testing import session

HIDDEN, WIDTH = 32, 24


def lstm(attributes: str = "") -> ir.Model:
    rng = np.random.default_rng(0)
    model = parse(
        '<ir_version: 10, opset_import: ["" : 23]>\n'
        f"g (float[S,B,{WIDTH}] x, float[1,{4 * HIDDEN},{WIDTH}] w, float[1,{4 * HIDDEN},{HIDDEN}] r)"
        f" => (float[S,1,B,{HIDDEN}] y) {{ y = LSTM<hidden_size = {HIDDEN}{attributes}>(x, w, r) }}"
    )
    for value in [*model.graph.inputs][1:]:
        shape = [int(d) for d in value.shape]
        drawn = rng.standard_normal(shape) / np.sqrt(shape[-1])
        value.const_value = ir.tensor(drawn.astype(np.float32), name=value.name)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


@pytest.mark.parametrize(("bits", "least"), [(8, 32.0), (7, 26.0)])
def test_it_is_close_and_small(bits: int, least: float) -> None:
    model = lstm()
    infer_types(model)
    steps = (Step("quantize-recurrent", {"smallest": 1, "bits": bits}),)
    run_recipe(model, Recipe("test", "", Budget(), steps), Context(model))
    x = np.random.default_rng(1).standard_normal((9, 2, WIDTH)).astype(np.float32)
    expected, got = (session(m).run(None, {"x": x})[0] for m in (lstm(), model))

    assert [node.op_type for node in model.graph] == ["DynamicQuantizeLSTM"]
    assert 10 * np.log10((expected**2).sum() / ((expected - got) ** 2).sum()) > least
    weights = [v.const_value.numpy() for n, v in model.graph.initializers.items() if n.endswith("/int8")]
    assert {int(np.abs(w).max()) for w in weights} == {(1 << (bits - 1)) - 1}


def test_defaults_that_are_spelled_out_stay_behind() -> None:
    """torch.onnx writes `layout = 0`, which the kernel in integers does not know."""
    model = lstm(", input_forget = 0, layout = 0")
    infer_types(model)
    steps = (Step("quantize-recurrent", {"smallest": 1}),)
    run_recipe(model, Recipe("test", "", Budget(), steps), Context(model))
    assert [node.op_type for node in model.graph] == ["DynamicQuantizeLSTM"]
    assert session(model).run(None, {"x": np.zeros((3, 2, WIDTH), np.float32)})[0].shape == (3, 1, 2, HIDDEN)


STATES = np.random.default_rng(4).standard_normal((2, 3, HIDDEN)).astype(np.float32)


def gru(direction: str, outputs: str, inputs: str = "x, w, r, b") -> ir.Model:
    rng = np.random.default_rng(0)
    d = 2 if direction == "bidirectional" else 1
    shapes = {"w": (d, 3 * HIDDEN, WIDTH), "r": (d, 3 * HIDDEN, HIDDEN), "b": (d, 6 * HIDDEN)}
    said = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in shapes.items())
    model = parse(
        '<ir_version: 10, opset_import: ["" : 23]>\n'
        f"g (float[S,B,{WIDTH}] x, float[{d},B,{HIDDEN}] h, {said}) => (float[S,{d},B,{HIDDEN}] y,"
        f" float[{d},B,{HIDDEN}] last) {{ {outputs} = GRU<hidden_size = {HIDDEN}, linear_before_reset = 1,"
        f' direction = "{direction}">({inputs}) }}'
    )
    for value in [*model.graph.inputs][2:]:
        drawn = rng.standard_normal([int(d) for d in value.shape]) / np.sqrt(int(value.shape[-1]))
        value.const_value = ir.tensor(drawn.astype(np.float32), name=value.name)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("inputs", ["x, w, r, b", "x, w, r", "x, w, r, b, , h"])
def test_a_gru_is_a_scan_that_computes_the_same(direction: str, inputs: str) -> None:
    model = gru(direction, "y, last", inputs)
    infer_types(model)
    steps = (Step("quantize-recurrent", {"smallest": 1, "units": 1}),)
    run_recipe(model, Recipe("test", "", Budget(), steps), Context(model))
    x = np.random.default_rng(1).standard_normal((9, 3, WIDTH)).astype(np.float32)
    feeds = {"x": x, "h": STATES[: 2 if direction == "bidirectional" else 1]}
    expected, got = (session(m).run(None, feeds) for m in (gru(direction, "y, last", inputs), model))

    assert "GRU" not in {node.op_type for node in model.graph}
    for one, other in zip(expected, got, strict=True):
        assert one.shape == other.shape
        assert 10 * np.log10((one**2).sum() / ((one - other) ** 2).sum()) > 30


def test_a_gru_of_few_units_stays() -> None:
    model = gru("forward", "y, last")
    infer_types(model)
    recipe = Recipe("test", "", Budget(), (Step("quantize-recurrent", {"smallest": 1}),))
    result = run_recipe(model, recipe, Context(model))
    assert [node.op_type for node in model.graph] == ["GRU"]
    reason = "it has fewer than 320 units: floats are as fast"
    assert [miss.reason for miss in result.records[0].near_misses] == [reason]
