"""Experts as one kernel: in 4 and 8 bits what they stand for, and what onnxruntime's kernels ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphopt.ir import parse, to_proto
from graphopt.pipeline import Context, PassRecord
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests._cache import ROOT
from tests.passes._compressed import normal

Array = np.ndarray[Any, Any]
EXPERTS, HIDDEN, INNER = 3, 64, 32
ACTIVATION = 'activation_type = "swiglu", swiglu_fusion = 1, activation_alpha = 1.0, activation_beta = 0.0'
GRAPH = """<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
g (float[T,64] x, float[T,3] logits) => (float[T,64] y)
<float[3,64,64] w1 = ["location": "absent"], float[3,64,32] w2 = ["location": "absent"]>
{ y = com.microsoft.MoE<k = 2, normalize_routing_weights = 1, %s>(x, logits, w1, , w2) }
"""


def experts(
    weights: dict[str, Array] | None = None, activation: str = ACTIVATION, text: str = GRAPH
) -> ir.Model:
    model = parse(text % activation)
    made = weights or {
        "w1": normal(EXPERTS, 2 * INNER, HIDDEN) / 8,
        "w2": normal(EXPERTS, HIDDEN, INNER, seed=1) / 4,
    }
    for name, array in made.items():
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return model


def quantized(model: ir.Model, **options: Any) -> PassRecord:
    recipe = Recipe("test", "", Budget(), (Step("quantize-experts", options),))
    return run_recipe(model, recipe, Context(model)).records[0]


def run(model: ir.Model, **feeds: Array) -> Array:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    content = to_proto(model).SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feeds = feeds or {"x": normal(7, HIDDEN, seed=2), "logits": normal(7, EXPERTS, seed=3)}
    return np.asarray(session.run(None, feeds)[0])


def as_floats(model: ir.Model, bits: int) -> dict[str, Array]:
    """The weights that the packed ones stand for."""
    found = {}
    for name in ("w1", "w2"):
        packed, scales = (
            model.graph.initializers[f"{name}/{part}"].const_value for part in (f"q{bits}", "scales")
        )
        assert packed is not None
        assert scales is not None
        data, steps = packed.numpy(), scales.numpy()
        levels = np.stack([data & 15, data >> 4], -1).reshape(*data.shape[:2], -1) if bits == 4 else data
        blocks = (levels.astype(np.float32) - (1 << (bits - 1))).reshape(*steps.shape, -1)
        found[name] = (blocks * steps[..., None]).reshape(*data.shape[:2], -1)
    return found


@pytest.mark.parametrize(("bits", "largest"), [(4, 1e-5), (8, 0.05)])
def test_packed_experts_are_what_their_floats_are(bits: int, largest: float) -> None:
    """At 8 bits the kernel rounds activations too, whatever the accuracy level."""
    model = experts()

    quantized(model, bits=bits, block_size=32, accuracy_level=0)

    assert [node.op_type for node in model.graph] == ["QMoE"]
    expected = run(experts(as_floats(model, bits)))
    assert np.abs(run(model) - expected).max() <= largest * expected.std()


@pytest.mark.parametrize("rest", ["", "normalize_routing_weights = 0, "])
def test_weights_that_do_not_sum_to_one_stay_so(rest: str) -> None:
    """Not to normalize is what an MoE does by itself."""
    text = GRAPH.replace("normalize_routing_weights = 1, ", rest)
    model = experts(text=text)

    quantized(model, bits=4, block_size=32, accuracy_level=0)

    expected = run(experts(as_floats(model, 4), text=text))
    assert np.abs(run(model) - expected).max() <= 1e-5 * expected.std()
    assert np.abs(run(experts(as_floats(model, 4))) - expected).max() > 0.1 * expected.std()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ("normalize_routing_weights = 1, use_sparse_mixer = 1", "QMoE has no sparse mixer"),
        ("(x, logits, w1, , w2, , w2)", "QMoE has no third product"),
    ],
)
def test_what_the_quantized_kernel_lacks_is_left(changed: str, reason: str) -> None:
    old = "(x, logits, w1, , w2)" if changed.startswith("(") else "normalize_routing_weights = 1"
    record = quantized(experts(text=GRAPH.replace(old, changed)))

    assert [miss.reason for miss in record.near_misses] == [reason]
    assert record.applied == 0


def test_8_bits_are_closer_than_4() -> None:
    exact = run(experts())
    damage = {}
    for bits in (4, 8):
        model = experts()
        quantized(model, bits=bits, block_size=32)
        damage[bits] = np.square(run(model) - exact).sum() / np.square(exact).sum()
    assert 1e-6 < damage[8] < damage[4] / 10 < 0.01


def test_blocks_shrink_until_both_sizes_are_whole_numbers_of_them() -> None:
    model = experts()
    quantized(model, block_size=128)
    (node,) = model.graph
    assert node.attributes["block_size"].as_int() == INNER


def test_weights_that_are_not_finite_are_refused() -> None:
    weights = {"w1": normal(EXPERTS, 2 * INNER, HIDDEN), "w2": normal(EXPERTS, HIDDEN, INNER)}
    weights["w2"][1, 2, 3] = np.nan
    model = experts(weights)
    record = quantized(model)
    assert [miss.reason for miss in record.near_misses] == [
        "its experts' weights have entries that are not finite"
    ]
    assert [node.op_type for node in model.graph] == ["MoE"]


@pytest.mark.parametrize("fusion", [0, 2])
def test_the_kernel_wants_gate_and_rest_in_turn(fusion: int) -> None:
    other = ACTIVATION.replace("swiglu_fusion = 1", f"swiglu_fusion = {fusion}")
    with pytest.raises(Exception, match="interleaved"):
        run(experts(activation=other))


def test_the_kernel_takes_the_softmax_over_the_chosen() -> None:
    x, logits = normal(7, HIDDEN, seed=2), normal(7, EXPERTS, seed=3)
    model = experts()
    w1, w2 = (v.const_value.numpy() for v in model.graph.initializers.values() if v.const_value is not None)
    expected = np.zeros_like(x)
    for token, row in enumerate(logits):
        chosen = np.argsort(row)[-2:]
        shares = np.exp(row[chosen]) / np.exp(row[chosen]).sum()
        for expert, share in zip(chosen, shares, strict=True):
            gate, up = np.split((w1[expert] @ x[token]).reshape(-1, 2).T, 2)
            expected[token] += share * (w2[expert] @ (gate / (1 + np.exp(-gate)) * up)[0])
    np.testing.assert_allclose(run(model), expected, rtol=1e-4, atol=1e-5)


def test_a_token_that_is_no_number_stays_none() -> None:
    """The kernel chooses no expert for it, whose sum is 0."""
    (_, text) = (
        (ROOT / "tests/golden/fuse-experts/weights-gathered-by-token.txt").read_text().split("--- before")
    )
    source, fused = (parse(text.split("--- after")[0]) for _ in range(2))
    record = run_recipe(
        fused, Recipe("test", "", Budget(), (Step("fuse-experts", {}),)), Context(fused)
    ).records[0]
    assert record.applied == 1
    x = normal(3, 4, seed=2)
    x[1, 2] = np.nan
    for model in (source, fused):
        assert np.isnan(run(model, x=x)).any(1).tolist() == [False, True, False]
