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
