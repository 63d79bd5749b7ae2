"""The block size that measurement chooses: when it measures, what it records, and what it does with that."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from graphopt.pipeline import Context
from graphopt.plugins import registry, run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.targets import BlockProduct
from tests.passes._compressed import PRODUCT, built, normal

QUANTIZE = registry.passes()["quantize-weights"]
FORMS = sys.modules[f"{QUANTIZE.__module__.rpartition('.')[0]}._weight_forms"]
KEY = "quantize-weights: seconds of 512 x 24, 4 bits, by block size"


def blocks(context: Context, **options: Any) -> list[int]:
    """The block sizes of the products that a [512, 24] weight becomes."""
    step = Step("quantize-weights", {"smallest": 1, "block_size": "auto", **options})
    run_recipe(context.model, Recipe("test", "", Budget(), (step,)), context)
    return [n.attributes["block_size"].as_int() for n in context.model.graph if n.op_type == "MatMulNBits"]


@pytest.fixture
def context() -> Context:
    model = built(PRODUCT, {"w": normal(512, 24)}, k=512, n=24)
    return Context(model, target=registry.targets()["cpu"]())


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight counts as large."""
    monkeypatch.setattr(FORMS, "_LARGE", 1)


def measuring(context: Context, seconds: Mapping[int, float] | None) -> list[BlockProduct]:
    """Have the target say that products take so long; what it is asked for."""
    asked: list[BlockProduct] = []

    class Measured(type(context.target)):  # type: ignore[misc]
        def product_seconds(self, product: BlockProduct, blocks: Sequence[int]) -> Mapping[int, float] | None:
            assert tuple(blocks) == (128, 256)
            asked.append(product)
            return seconds

    context.target = Measured()
    return asked


@pytest.mark.parametrize(("wide", "block"), [(0.5, 256), (0.94, 256), (0.97, 128), (1.2, 128)])
@pytest.mark.usefixtures("large")
def test_a_larger_block_has_to_pay(context: Context, wide: float, block: int) -> None:
    asked = measuring(context, {128: 1.0, 256: wide})

    assert blocks(context) == [block]
    assert asked == [BlockProduct(bits=4, k=512, n=24, level=4)]
    assert context.decisions == {KEY: {"128": 1.0, "256": wide}}


@pytest.mark.usefixtures("large")
def test_a_recorded_decision_is_replayed(context: Context) -> None:
    asked = measuring(context, {128: 1.0, 256: 2.0})
    context.decisions[KEY] = {"128": 1.0, "256": 0.5}

    assert blocks(context) == [256]
    assert asked == []


@pytest.mark.usefixtures("large")
def test_a_target_that_does_not_measure_gets_the_usual_block(context: Context) -> None:
    asked = measuring(context, None)

    assert blocks(context) == [128]
    assert asked
    assert context.decisions == {}


def test_small_weights_are_not_measured(context: Context) -> None:
    asked = measuring(context, {128: 1.0, 256: 0.5})

    assert blocks(context) == [128]
    assert asked == []
    assert context.decisions == {}


@pytest.mark.usefixtures("large")
def test_without_a_target_there_is_nothing_to_measure(context: Context) -> None:
    context.target = None

    assert blocks(context) == [128]
    assert context.decisions == {}
