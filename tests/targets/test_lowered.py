"""A graph that is lowered for a target holds what its table has, and gives what it gave."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import infer_types
from graphopt.pipeline import Context
from graphopt.plugins import registry, run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.targets import Target
from tests.passes._canonical import CALLS, Domain, Shape
from tests.passes._runs import Lowered
from tests.passes._vision import BLOCKS

CLEAN = tuple(Step(name) for name in ("fold-constants", "remove-noops", "cse", "dead-code"))
RECIPE = Recipe("test", "", Budget(), ())
TOLERANCE = 1e-5  # of an output's standard deviation; float32 and another order of sums

# What is left to the CPU provider: whole numbers, of a size or a position, on GPUs; on Core ML nearly all.
SIZES = {
    "Add",
    "ArgMax",
    "Cast",
    "Concat",
    "Max",
    "Neg",
    "Range",
    "Shape",
    "Slice",
    "Squeeze",
    "Sub",
    "Unsqueeze",
}
DECODER = {
    "cuda": ({"ArgMax"}, {"Attention", "SkipSimplifiedLayerNormalization", "QuickGelu"}),
    "tensorrt": (set(), {"RMSNormalization", "RotaryEmbedding", "Softmax"}),
    "tensorrt-rtx": (set(), {"RMSNormalization", "RotaryEmbedding", "Softmax"}),
    "webgpu": (SIZES, {"GroupQueryAttention", "SkipSimplifiedLayerNormalization", "QuickGelu"}),
    "directml": (set(), {"Softmax", "SkipSimplifiedLayerNormalization", "QuickGelu"}),
    "migraphx": (set(), {"Softmax", "SkipSimplifiedLayerNormalization", "QuickGelu"}),
}
NET = {
    "cuda": (21, set()),  # its kernels of MaxPool are for the form of opset 12
    "tensorrt": (23, set()),
    "tensorrt-rtx": (23, set()),
    "webgpu": (21, set()),
    "coreml": (21, {"Flatten"}),
    "directml": (21, set()),
    "migraphx": (23, set()),
}


def target_of(name: str) -> Target:
    return registry.targets()[name]()


def steps_of(target: Target) -> tuple[Step, ...]:
    return (*target.lowering(RECIPE), *CLEAN)


@pytest.mark.parametrize("name", DECODER)
def test_a_decoder(name: str) -> None:
    target = target_of(name)
    made = Lowered(Shape(), *steps_of(target), target=target)
    infer_types(made.model)
    left, there = DECODER[name]
    found = target.capabilities().left_to_others(made.model)

    assert {one.operator.removeprefix("ai.onnx::") for one in found} == left
    assert there <= made.operators.keys()
    assert target.capabilities().unsupported(made.model) == []
    for call in CALLS[:2]:
        case = Domain(made.shape).case(call, np.random.default_rng(7))
        assert made.error(case) < TOLERANCE


def test_on_core_ml_a_decoder_runs_on_the_cpu_but_for_its_products() -> None:
    target = target_of("coreml")
    made = Lowered(Shape(), *steps_of(target), target=target)
    infer_types(made.model)
    found = {one.operator for one in target.capabilities().left_to_others(made.model)}

    assert {"ai.onnx::Attention", "ai.onnx::RotaryEmbedding", "ai.onnx::Reshape"} <= found
    assert "ai.onnx::MatMul" not in found


@pytest.mark.parametrize("name", NET)
def test_a_net(name: str) -> None:
    target = target_of(name)
    model = BLOCKS["residual"].model()
    infer_types(model)
    run_recipe(model, Recipe("test", "", Budget(), steps_of(target)), Context(model, target=target))
    opset, left = NET[name]

    assert model.opset_imports[""] == opset
    assert {
        one.operator.removeprefix("ai.onnx::") for one in target.capabilities().left_to_others(model)
    } == left


def test_a_graph_goes_up_no_further_than_the_kernels_of_its_target() -> None:
    """At opset 22 MaxPool and Conv have forms that DirectML has no kernel for."""
    target = target_of("directml")
    model = BLOCKS["residual"].model()
    model.opset_imports[""] = 17
    infer_types(model)
    upgrade = Recipe("test", "", Budget(), (Step("upgrade"),))
    result = run_recipe(model, upgrade, Context(model, target=target))

    assert model.opset_imports[""] == 21
    reasons = {miss.reason for record in result.records for miss in record.near_misses}
    assert any("'directml' leaves to others" in reason for reason in reasons)


def test_half_precision_becomes_attention_with_a_cache_of_cuda() -> None:
    """Padding on the right alone: its kernel takes no bias."""
    capabilities = target_of("cuda").capabilities()
    half, single = ({"T": kind, "T_CACHE": kind} for kind in ("tensor(float16)", "tensor(float)"))

    assert capabilities.supports("com.microsoft", "GroupQueryAttention", 1, half)
    assert not capabilities.supports("com.microsoft", "GroupQueryAttention", 1, single)
    assert not capabilities.accepts("attention-bias")
    (step,) = (s for s in target_of("cuda").lowering(RECIPE) if s.name == "lower-attention")
    assert step.options == {"mode": "dense"}
