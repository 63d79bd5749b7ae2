"""Experts that came in blocks stay in them, and those that did not are rounded by what reaches them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes._nbits import Packed, quantize_rows, unpacked

from graphopt.calibrate import CalibrationData
from graphopt.ir import (
    Concatenated,
    Expr,
    InMemory,
    LazyTensor,
    Reshaped,
    Scaled,
    Taken,
    Transposed,
    lazy,
    simplified,
    stacked_blocks_of,
)
from graphopt.pipeline import Context, PassRecord
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.testing import in_blocks
from tests.passes._compressed import normal
from tests.passes.test_experts import EXPERTS, HIDDEN, INNER, experts, run


def blocks(count: int, width: int, seed: int, bits: int = 4, block: int = 32) -> Expr:
    """[count, width] as a checkpoint has it."""
    return simplified(Transposed(in_blocks(normal(width, count, seed=seed) / 8, bits, block), (1, 0)))


def stacked(parts: list[Expr]) -> Expr:
    return Concatenated(tuple(Reshaped(part, (1, *part.shape)) for part in parts), 0)


def gate_and_up(*, bits: int = 4, block: int = 32) -> Expr:
    """W1 as fuse-experts leaves it: gates and the rest of all experts, stacked, joined, and in turn."""
    gates, ups = (
        stacked([blocks(INNER, HIDDEN, seed + e, bits, block) for e in range(EXPERTS)]) for seed in (0, 10)
    )
    halves = Reshaped(Concatenated((gates, ups), 1), (EXPERTS, 2, INNER, HIDDEN))
    return Reshaped(Transposed(halves, (0, 2, 1, 3)), (EXPERTS, 2 * INNER, HIDDEN))


def down(*, bits: int = 4, block: int = 32) -> Expr:
    return stacked([blocks(HIDDEN, INNER, 20 + e, bits, block) for e in range(EXPERTS)])


def mixture(first: Expr, second: Expr) -> ir.Model:
    model = experts()
    for name, expr in (("w1", first), ("w2", second)):
        model.graph.initializers[name].const_value = LazyTensor(expr, name=name)
    return model


def after(model: ir.Model, name: str, context: Context | None = None, **options: Any) -> PassRecord:
    recipe = Recipe("test", "", Budget(), (Step(name, options),))
    return run_recipe(model, recipe, context or Context(model)).records[0]


@pytest.mark.parametrize(("bits", "block", "largest"), [(4, 32, 1e-5), (4, 16, 1e-5), (8, 32, 0.05)])
def test_the_kernel_computes_with_what_the_blocks_stand_for(bits: int, block: int, largest: float) -> None:
    """Zero points of their own, gate and rest in turn. At 8 bits the kernel rounds activations, too."""
    first, second = gate_and_up(bits=bits, block=block), down(bits=bits, block=block)
    expected = run(experts({"w1": first.read(), "w2": second.read()}))
    model = mixture(first, second)

    record = after(model, "keep-blocks", accuracy_level=0)

    assert record.applied == 1
    assert [node.op_type for node in model.graph] == ["QMoE"]
    assert {name.partition("/")[2] for name in model.graph.initializers} == {f"q{bits}", "scales", "zeros"}
    assert np.abs(run(model) - expected).max() <= largest * expected.std()


def test_rows_are_traced_back_to_their_blocks() -> None:
    whole = gate_and_up()
    found = stacked_blocks_of(whole)

    assert not isinstance(found, str)
    assert found is not None
    np.testing.assert_array_equal(found.read(), whole.read().reshape(-1, HIDDEN))


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (gate_and_up(bits=8), down(), "its experts' two weights are not in blocks of one form"),
        (
            gate_and_up(),
            InMemory(normal(EXPERTS, HIDDEN, INNER)),
            "its experts' two weights are not in blocks",
        ),
        (gate_and_up(bits=2), down(bits=2), "its experts are of 2 bits, and QMoE's kernel takes 4 and 8"),
        (
            gate_and_up(block=64),
            down(block=64),
            "rows of its experts are not a multiple of their blocks of 64",
        ),
        (
            Scaled(gate_and_up(), InMemory(np.full(HIDDEN, 2, np.float32)), 2),
            down(),
            "its experts came in blocks, and are scaled after it was unpacked",
        ),
        (
            stacked(
                [Taken(blocks(64, 64, e), InMemory(np.arange(64)[::-1].copy()), 1) for e in range(EXPERTS)]
            ),
            down(),
            "its experts came in blocks, and are taken after it was unpacked",
        ),
    ],
    ids=["two forms", "one of two", "2 bits", "a part of a block", "scaled", "columns in another order"],
)
def test_what_the_layout_does_not_allow_is_refused(first: Expr, second: Expr, reason: str) -> None:
    model = mixture(first, second)
    record = after(model, "keep-blocks")

    assert [miss.reason.startswith(reason) for miss in record.near_misses] == [True]
    assert [node.op_type for node in model.graph] == ["MoE"]


def test_what_came_in_blocks_is_rounded_again_only_if_asked() -> None:
    model = mixture(gate_and_up(), down())

    assert after(model, "quantize-experts").near_misses[0].reason == (
        "weight w1 came in blocks, and rounding it again has to be asked for (requantize)"
    )
    assert after(model, "quantize-experts", requantize=True).applied == 1


def tokens(calls: int, rows: int) -> CalibrationData:
    """Of which the last expert gets few."""
    made = []
    for seed in range(calls):
        x = normal(rows, HIDDEN, seed=seed) @ normal(HIDDEN, HIDDEN, seed=99) / 8
        logits = normal(rows, EXPERTS, seed=seed + 50)
        logits[1:, -1] = -20
        logits[0, -1] = 20
        made.append({"x": x * np.geomspace(1, 0.05, HIDDEN, dtype=np.float32), "logits": logits})
    return CalibrationData("test", "digest", tuple(made), calls * rows)


def packed_of(model: ir.Model, name: str, expert: int) -> Packed:
    weight, scales = (
        lazy(model.graph.initializers[f"{name}/{part}"].const_value).read()[expert]
        for part in ("q4", "scales")
    )
    return Packed(weight.reshape(*scales.shape, -1), scales)


def gptq(data: CalibrationData | None) -> tuple[ir.Model, Context]:
    model = experts()
    context = Context(model, calibration=data)
    after(model, "quantize-experts", context, block_size=32, rounding="gptq", accuracy_level=0)
    return model, context


def test_each_expert_is_rounded_by_the_tokens_that_go_to_it() -> None:
    data, plain = tokens(8, 64), experts()
    model, context = gptq(data)
    after(plain, "quantize-experts", block_size=32)
    weights = lazy(experts().graph.initializers["w1"].const_value).read()

    for expert in range(EXPERTS - 1):

        def off(made: ir.Model, expert: int = expert) -> float:
            """Of the products with the tokens that go to the expert, each as much as it counts."""
            apart = unpacked(packed_of(made, "w1", expert), 4, HIDDEN) - weights[expert]
            total = 0.0
            for call in data:
                scores = np.exp(call["logits"])
                scores[scores < np.sort(scores, -1)[:, -2:-1]] = 0
                share = (scores / scores.sum(-1, keepdims=True))[:, expert, None]
                total += float(np.square(share * call["x"] @ apart.T).sum())
            return total

        assert off(model) < 0.6 * off(plain)
    np.testing.assert_array_equal(
        packed_of(model, "w1", EXPERTS - 1).weight, quantize_rows(weights[-1], 4, 32).weight
    )
    assert context.notes[1:] == [
        "quantize-experts: w1: 1 of 3 experts are rounded to nearest: 8 tokens go to one of them, "
        "and 16 are wanted"
    ]


def test_the_mixture_is_less_off_on_other_tokens() -> None:
    model, _ = gptq(tokens(16, 128))
    plain = experts()
    after(plain, "quantize-experts", block_size=32, accuracy_level=0)
    exact = run(experts(), **tokens(40, 64).calls[-1])

    errors = [np.square(run(m, **tokens(40, 64).calls[-1]) - exact).sum() for m in (model, plain)]

    assert errors[0] < 0.6 * errors[1]


def test_without_calibration_data_experts_are_rounded_to_nearest_and_it_is_said() -> None:
    model, context = gptq(None)
    weights = lazy(experts().graph.initializers["w2"].const_value).read()

    np.testing.assert_array_equal(packed_of(model, "w2", 1).weight, quantize_rows(weights[1], 4, 32).weight)
    assert context.notes == [
        "quantize-experts: experts are rounded to nearest: there is nothing to calibrate on"
    ]
