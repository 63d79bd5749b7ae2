"""quantize-dynamic with a limit on the damage: what it measures, and what it then leaves alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.interface import Interface
from graphopt.ir import parse
from graphopt.pipeline import Context, PassRecord
from graphopt.plugins import registry, run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.testing import session
from tests.passes._compressed import normal

GRAPH = """<ir_version: 10, opset_import: ["" : 23]>
g (int64[batch,sequence] input_ids, int64[batch,sequence] attention_mask%s) => (float[batch,sequence,8] y)
<float[16,32] table = ["location": "absent"], float[32,64] wide = ["location": "absent"],
 float[64,8] last = ["location": "absent"], float[16,1] spikes = ["location": "absent"]>
{
  x = Gather(table, input_ids)
  h = MatMul(x, wide)
  k = Gather(spikes, input_ids)
  s = Mul(h, k)
  y = MatMul(s, last)
}
"""


def encoder(more: str = "") -> tuple[ir.Model, Context]:
    model = parse(GRAPH % more)
    spikes = np.ones((16, 1), np.float32)
    spikes[3] = 100
    arrays = {"table": normal(16, 32), "wide": normal(32, 64, seed=1), "last": normal(64, 8, seed=2)}
    arrays["spikes"] = spikes
    for name, array in arrays.items():
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    config = {"vocab_size": 16, "pad_token_id": 0}
    family = registry.resolve("model family", "encoder", registry.families())()
    return model, Context(model, domain=family.input_domain(Interface.of(model), config), config=config)


def quantized(model: ir.Model, context: Context, **options: Any) -> PassRecord:
    recipe = Recipe("test", "", Budget(), (Step("quantize-dynamic", {"smallest": 1, **options}),))
    return run_recipe(model, recipe, context).records[0]


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def test_a_product_of_which_one_token_is_much_larger_is_left_alone() -> None:
    model, context = encoder()

    record = quantized(model, context, damage=0.003)

    assert context.decisions["quantize-dynamic"] == ["wide"]
    assert operators(model)["MatMulInteger"] == 1
    assert [miss.reason for miss in record.near_misses] == [
        "weight last would change the output too much for what it saves"
    ]


def test_the_budget_holds_for_every_output() -> None:
    model, context = encoder()
    x = model.graph[0].outputs[0]
    model.graph.outputs.insert(0, x)  # which no product changes

    quantized(model, context, damage=0.003)

    assert context.decisions["quantize-dynamic"] == ["wide"]


@pytest.mark.parametrize(("damage", "count"), [(1e-9, 0), (1.0, 2), (0.0, 2)])
def test_the_budget_decides_and_none_is_no_limit(damage: float, count: int) -> None:
    model, context = encoder()
    quantized(model, context, damage=damage)
    assert operators(model)["MatMulInteger"] == count


def test_rows_of_their_own_scale_bear_one_token_that_is_much_larger() -> None:
    model, context = encoder()

    quantized(model, context, damage=0.003, scale="row")

    assert context.decisions["quantize-dynamic"] == ["last", "wide"]
    assert operators(model)["ReduceMax"] == 2


def test_where_all_weights_are_small_nothing_is_measured() -> None:
    model, context = encoder()

    record = quantized(model, context, damage=1.0, smallest=1 << 20)

    assert operators(model)["MatMulInteger"] == 0
    assert "fewer than" in record.near_misses[0].reason


def test_the_rest_is_computed_twice() -> None:
    model, context = encoder()

    quantized(model, context, damage=0.003, rest="twice")

    assert context.decisions["quantize-dynamic"] == ["wide"]
    assert operators(model)["MatMulInteger"] == 3
    assert operators(model)["DequantizeLinear"] == 1


def test_without_known_inputs_nothing_is_computed_twice() -> None:
    model, _ = encoder()
    quantized(model, Context(model), damage=1.0, rest="twice")
    assert operators(model)["MatMulInteger"] == 0


def test_a_recorded_choice_is_taken_as_it_is() -> None:
    model, context = encoder()
    context.decisions["quantize-dynamic"] = ["last"]
    quantized(model, context, damage=1e-9)
    assert operators(model)["MatMulInteger"] == 1


def test_a_product_computed_twice_has_sixteen_bits_of_its_activation() -> None:
    """Also of tokens a hundredth as large as another one; the weights are rounded once."""
    model, context = encoder()
    quantized(model, context, damage=1e-9, rest="twice")
    wide, last = (by_column(w) for w in (normal(32, 64, seed=1), normal(64, 8, seed=2)))
    h = normal(16, 32) @ wide
    h[3] *= 100

    (found,) = session(model).run(
        None, {"input_ids": np.arange(16)[None], "attention_mask": np.ones((1, 16), np.int64)}
    )

    assert operators(model)["MatMulInteger"] == 4
    np.testing.assert_allclose(found[0], h @ last, atol=5e-4 * np.abs(h).max(), rtol=0)


def by_column(w: np.ndarray) -> np.ndarray:
    step = np.abs(w).max(0) / 127
    return np.asarray(np.rint(w / step) * step)


def test_a_model_with_a_cache_is_left_alone() -> None:
    model, context = encoder(', float[batch,2,past,16] "past_key_values.0.key"')
    context.states = {"past_key_values.0.key": "present.0.key"}
    record = quantized(model, context, damage=1.0)
    assert operators(model)["MatMulInteger"] == 0
    assert "the model has a cache" in record.near_misses[0].reason


def test_without_known_inputs_nothing_is_measured() -> None:
    model, _ = encoder()
    record = quantized(model, Context(model), damage=1.0)
    assert operators(model)["MatMulInteger"] == 0
    assert "nothing is known about legal inputs" in record.near_misses[0].reason
