"""The block size that measurement chooses: when it measures, what it records, and what it does with that."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt.pipeline import Context
from graphopt.plugins import registry, run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests.passes._compressed import PRODUCT, built, normal

QUANTIZE = registry.passes()["quantize-weights"]
MODULE = sys.modules[QUANTIZE.__module__]
RATES = sys.modules[MODULE.chosen_block.__module__]
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
    """Every weight counts as large, and nothing is known."""
    monkeypatch.setattr(MODULE, "_LARGE", 1)
    monkeypatch.setattr(MODULE, "known_seconds", lambda machine, what: None)


def measuring(monkeypatch: pytest.MonkeyPatch, seconds: Mapping[str, float]) -> list[Mapping[str, int]]:
    asked: list[Mapping[str, int]] = []
    monkeypatch.setattr(MODULE, "measured_seconds", lambda what: asked.append(what) or dict(seconds))
    return asked


@pytest.mark.parametrize(("wide", "block"), [(0.5, 256), (0.94, 256), (0.97, 128), (1.2, 128)])
@pytest.mark.usefixtures("large")
def test_a_larger_block_has_to_pay(
    context: Context, monkeypatch: pytest.MonkeyPatch, wide: float, block: int
) -> None:
    asked = measuring(monkeypatch, {"128": 1.0, "256": wide})

    assert blocks(context) == [block]
    assert asked == [{"bits": 4, "k": 512, "n": 24, "level": 4}]
    assert context.decisions == {KEY: {"128": 1.0, "256": wide}}


@pytest.mark.usefixtures("large")
def test_a_recorded_decision_is_replayed(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = measuring(monkeypatch, {"128": 1.0, "256": 2.0})
    context.decisions[KEY] = {"128": 1.0, "256": 0.5}

    assert blocks(context) == [256]
    assert asked == []


def test_small_weights_are_not_measured(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = measuring(monkeypatch, {"128": 1.0, "256": 0.5})

    assert blocks(context) == [128]
    assert asked == []
    assert context.decisions == {}


@pytest.mark.usefixtures("large")
def test_without_a_target_there_is_nothing_to_measure(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.target = None
    asked = measuring(monkeypatch, {"128": 1.0, "256": 0.5})

    assert blocks(context) == [128]
    assert asked == []


def test_what_is_known_is_of_the_same_machine_and_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"processor": "P", "instructions": "I", "threads": "2", "onnxruntime": "1", "cores": "4"}
    what = {"bits": 4, "k": 512, "n": 24, "level": 4}
    seconds = {"128": 2.0, "256": 1.0}
    entry = {"machine": RATES.relevant(machine), "product": what, "seconds": seconds}
    file = tmp_path / "knowledge.json"
    file.write_text(json.dumps([entry]))
    monkeypatch.setattr(RATES, "KNOWLEDGE", file)

    assert RATES.known_seconds({**machine, "cores": "8"}, what) == seconds
    assert RATES.known_seconds({**machine, "onnxruntime": "2"}, what) is None
    assert RATES.known_seconds(machine, {**what, "n": 25}) is None


def test_every_known_entry_names_its_evidence() -> None:
    for entry in json.loads(RATES.KNOWLEDGE.read_text(encoding="utf-8")):
        assert set(entry["machine"]) == set(RATES.relevant({}))
        assert set(entry["product"]) == {"bits", "k", "n", "level"}
        assert set(entry["seconds"]) == set(map(str, RATES.BLOCKS))
        assert entry["date"]


def test_measuring_runs_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RATES, "_BYTES", 1 << 13)
    monkeypatch.setattr(RATES, "_SECONDS", 0)
    found = RATES.measured_seconds({"bits": 4, "k": 512, "n": 24, "level": 4})

    assert set(found) == {"128", "256"}
    assert np.isfinite(list(found.values())).all()


def test_no_two_weights_that_are_measured_are_equal() -> None:
    model = RATES._products({"bits": 4, "k": 512, "n": 24, "level": 4}, 128, 1, 3)
    weights = [v.const_value.numpy() for n, v in model.graph.initializers.items() if n.startswith("w")]

    assert len({weight.tobytes() for weight in weights}) == 3
