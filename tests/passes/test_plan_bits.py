"""plan-bits on a real model of a few thousand weights, and what it shares choices among."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import pytest

from graphopt import BadInput, CheckFailed
from graphopt.calibrate import Branches, CalibrationData
from graphopt.ir import infer_types, parse
from graphopt.pipeline import Context, run_steps
from graphopt.plan import PLAN, Plan
from graphopt.plugins import registry
from graphopt.targets import BlockProduct

Form = importlib.import_module("graphopt_passes._forms").Form
units_of = importlib.import_module("graphopt_passes._units").weight_units
PlanBits = registry.passes()["plan-bits"]
TEXT = """
<ir_version: 10, opset_import: ["" : 23]>
g (int64[B,S] ids) => (float[B,S,V] logits) {
  x = Gather(table, ids)
  q = MatMul(x, Wq)
  k = MatMul(x, Wk)
  v = MatMul(x, Wv)
  a = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v)
  o = MatMul(a, Wo)
  h = Add(x, o)
  gate = MatMul(h, Wg)
  s = Sigmoid(gate)
  act = Mul(gate, s)
  up = MatMul(h, Wu)
  m = Mul(act, up)
  down = MatMul(m, Wd)
  y = Add(h, down)
  head = Transpose <perm = [1, 0]> (table)
  logits = MatMul(y, head)
}
"""
SHAPES = {"table": (96, 64), "Wd": (128, 64), "Wg": (64, 128), "Wu": (64, 128)}


def model() -> ir.Model:
    made = parse(TEXT)
    rng = np.random.default_rng(0)
    for name in ("table", "Wq", "Wk", "Wv", "Wo", "Wg", "Wu", "Wd"):
        shape = SHAPES.get(name, (64, 64))
        array = rng.standard_normal(shape).astype(np.float32) / np.float32(8)
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        for node in made.graph:
            for index, given in enumerate(node.inputs):
                if given is not None and given.name == name:
                    node.replace_input_with(index, value)
        made.graph.initializers[name] = value
    infer_types(made)
    return made


def context(made: ir.Model) -> Context:
    rng = np.random.default_rng(1)
    calls = tuple({"ids": rng.integers(0, 96, (1, 48))} for _ in range(2))
    return Context(made, calibration=CalibrationData("made up", "0", calls, 96))


def planned(budget: str, **options: object) -> tuple[Plan | None, Context]:
    made = model()
    around = context(made)
    options = {"forms": "2/32,4/32,4/64,8/32", "smallest": 0, "budget": budget, **options}
    run_steps(made, [("plan-bits", PlanBits.configure(options))], around)
    found = around.decisions.get(PLAN)
    return None if found is None else Plan.model_validate(found), around


def test_what_is_read_together_shares_a_form() -> None:
    found = units_of(model().graph)
    assert [unit.names for unit in found] == [("table",), ("Wq", "Wk", "Wv"), ("Wo",), ("Wg", "Wu"), ("Wd",)]
    assert [len(unit.sites) for unit in found] == [2, 3, 1, 2, 1]


def test_a_budget_of_bits_is_kept_and_used() -> None:
    plan, around = planned("bpw=4.5")
    assert plan is not None
    assert plan.predicted["bpw"] <= 4.5
    assert around.decisions["plan-bits"] == dict(plan.forms)
    assert set(plan.forms) == {"table", "Wq", "Wk", "Wv", "Wo", "Wg", "Wu", "Wd"}
    smaller, _ = planned("bpw=3.2")
    assert smaller is not None
    assert smaller.predicted["kl_mean"] > plan.predicted["kl_mean"] > 0


def test_damages_are_those_of_the_model_so_stored() -> None:
    """What is predicted of a plan is what comes out where its weights are put into the model."""
    plan, around = planned("bpw=4.2")
    assert plan is not None
    assert around.calibration is not None
    original, changed = model(), model()
    forms, nbits = (importlib.import_module(f"graphopt_passes.{n}") for n in ("_forms", "_nbits"))
    for name, text in plan.forms.items():
        value, form = changed.graph.initializers[name], forms.Form.parse(text)
        assert value.const_value is not None
        array = value.const_value.numpy()
        rows = array if name == "table" else np.ascontiguousarray(array.T)
        stored = nbits.unpacked(nbits.quantize_rows(rows, form.bits, form.block), form.bits, rows.shape[1])
        value.const_value = ir.tensor(
            np.ascontiguousarray(stored if name == "table" else stored.T), name=name
        )
    kl = []
    for feeds in around.calibration:
        log_p, log_q = (_log_probabilities(m, feeds["ids"]) for m in (original, changed))
        kl.append((np.exp(log_p) * (log_p - log_q)).sum(-1))
    assert plan.predicted["kl_mean"] == pytest.approx(np.mean(kl), rel=0.2)


def test_damages_are_those_of_the_rounding_that_follows() -> None:
    """What is predicted is what comes of GPTQ, on calls that it has not seen."""
    options = {"forms": "2/32,4/32", "smallest": 0, "rounding": "gptq"}
    made, original = model(), model()
    rng = np.random.default_rng(1)
    calls = tuple({"ids": rng.integers(0, 96, (1, 64))} for _ in range(16))
    around = Context(made, calibration=CalibrationData("made up", "0", calls, 1024))
    quantize = registry.passes()["quantize-weights"]
    steps = [
        ("plan-bits", PlanBits.configure({**options, "budget": "bpw=4", "tokens": 256})),
        ("quantize-weights", quantize.configure({"rounding": "gptq", "smallest": 0})),
    ]
    run_steps(made, steps, around)
    plan = Plan.model_validate(around.decisions[PLAN])
    assert set(plan.forms.values()) == {"2/32", "4/32"}
    kl = []
    for feeds in calls[-4:]:
        log_p, log_q = (_log_probabilities(m, feeds["ids"]) for m in (original, made))
        kl.append((np.exp(log_p) * (log_p - log_q)).sum(-1))
    assert plan.predicted["kl_mean"] == pytest.approx(np.mean(kl), rel=0.15)


class Remembered:
    """A `Memory` of a step that counts what it keeps."""

    def __init__(self) -> None:
        self.arrays: dict[str, dict[str, np.ndarray]] = {}

    def recall(self, key: str, *, for_any_options: bool) -> dict[str, np.ndarray] | None:
        return self.arrays.get(key)

    def keep(self, key: str, arrays: Any, *, for_any_options: bool) -> None:
        assert for_any_options
        self.arrays[key] = dict(arrays)


@pytest.mark.parametrize(("rounding", "shares"), [("nearest", 3), ("gptq", 2), ("gptq", 9)])
def test_shares_of_damages_are_to_the_last_bit_those_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, rounding: str, shares: int
) -> None:
    options = {"forms": "2/32,4/32,4/64,8/32", "smallest": 0, "budget": "bpw=4", "rounding": rounding}
    rng = np.random.default_rng(1)
    calls = tuple({"ids": rng.integers(0, 96, (1, 64))} for _ in range(8))

    def plan(memory: Remembered, part: str = "") -> Any:
        made = model()
        around = Context(
            made, calibration=CalibrationData("made up", "0", calls, 512), memory=cast("Any", memory)
        )
        run_steps(made, [("plan-bits", PlanBits.configure({**options, "part": part}))], around)
        return around.decisions.get(PLAN)

    whole, memory = plan(Remembered()), Remembered()
    for number in reversed(range(shares)):
        assert plan(memory, f"{number}/{shares}") is None
    items = len(memory.arrays)

    def again(*_: Any, **__: Any) -> None:
        raise AssertionError("measured twice")

    monkeypatch.setattr(importlib.import_module("graphopt_passes._measuring"), "measure", again)
    assert plan(memory) == whole
    assert items == 5 + 2  # units, and plans: all in 4/64, and forms in turns
    assert len(memory.arrays) == items + 1
    assert plan(memory, "0/4") is None  # however it is shared out


@pytest.mark.parametrize("part", ["5/5", "first", "a/b", "-1/2"])
def test_a_share_that_is_none_is_refused(part: str) -> None:
    with pytest.raises(BadInput, match="is no share"):
        planned("bpw=4", part=part)


def test_a_table_that_stays_as_it_is_is_not_planned_for() -> None:
    made, around = with_a_table_of_its_own()
    options = {"forms": "4/32,8/32", "smallest": 0, "budget": "bpw=6", "embedding": "tied"}
    run_steps(made, [("plan-bits", PlanBits.configure(options))], around)
    assert "own" not in around.decisions["plan-bits"]
    assert "Wq" in around.decisions["plan-bits"]


def with_a_table_of_its_own() -> tuple[ir.Model, Context]:
    made = model()
    lookup = next(node for node in made.graph if node.op_type == "Gather")
    table = made.graph.initializers["table"].const_value
    assert table is not None
    other = ir.Value(name="own", const_value=ir.tensor(table.numpy() * np.float32(1.5), name="own"))
    made.graph.initializers.add(other)
    lookup.replace_input_with(0, other)
    infer_types(made)
    return made, context(made)


def test_a_table_of_its_own_is_planned_and_packed() -> None:
    made, around = with_a_table_of_its_own()
    assert next(unit.names for unit in units_of(made.graph)) == ("own",)
    assert ("own",) not in [unit.names for unit in units_of(made.graph, lookups=False)]
    quantize = registry.passes()["quantize-weights"]
    plan = {"forms": "4/32,8/32", "smallest": 0, "budget": "bpw=6", "embedding": "all"}
    steps = [
        ("plan-bits", PlanBits.configure(plan)),
        ("quantize-weights", quantize.configure({"smallest": 0, "embedding": "all"})),
    ]
    run_steps(made, steps, around)
    assert "own" in around.decisions["plan-bits"]
    assert "GatherBlockQuantized" in {node.op_type for node in made.graph}


class Timed:
    """A target on which a bit of a weight takes a picosecond, and blocks of 64 nothing on top."""

    name = "timed"

    def fingerprint(self) -> dict[str, str]:
        return {"processor": "none that was measured"}

    def capabilities(self) -> Any:
        """It has MatMulNBits; which sizes of it is not asked where all are known."""
        return SimpleNamespace(supports=lambda *asked: True)

    def token_seconds(self, product: BlockProduct, blocks: Sequence[int]) -> dict[int, float]:
        size = product.k * product.n * product.bits * 1e-12
        return {block: size * (1 if block == 64 else 1.25) for block in blocks}


@pytest.mark.parametrize(("times", "form"), [(1.001, "4/64"), (2.001, "8/64")])
def test_time_is_shared_out_as_the_target_measures_it(
    monkeypatch: pytest.MonkeyPatch, times: float, form: str
) -> None:
    made = model()
    around = replace(context(made), target=cast("Any", Timed()))
    monkeypatch.setattr(PlanBits, "_forms", lambda self, context: [Form(4, 32), Form(4, 64), Form(8, 64)])
    bound = times * 64 * (4 * 64 + 3 * 128 + 96) * 4e-12  # of what 4 bits in blocks of 64 take
    options = {"smallest": 0, "budget": f"tpot={bound}s"}
    run_steps(made, [("plan-bits", PlanBits.configure(options))], around)
    plan = Plan.model_validate(around.decisions[PLAN])
    assert set(plan.forms.values()) == {form}
    assert plan.predicted["tpot"] == pytest.approx(bound, rel=0.002)
    assert plan.predicted["decode_tokens_per_second"] == pytest.approx(1 / plan.predicted["tpot"])


def _log_probabilities(made: ir.Model, ids: np.ndarray) -> np.ndarray:
    from graphopt.ir import evaluate

    (logits,) = evaluate(made, {"ids": ids})
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_a_budget_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(CheckFailed, match="bpw=2 cannot be met"):
        planned("bpw=2")


def test_without_a_budget_or_calibration_nothing_is_decided() -> None:
    assert planned("")[0] is None
    made = model()
    around = replace(context(made), calibration=None)
    run_steps(made, [("plan-bits", PlanBits.configure({"budget": "bpw=4", "smallest": 0}))], around)
    assert around.decisions == {}
    assert "nothing to calibrate on" in around.notes[0]


def test_a_recorded_plan_is_not_measured_again() -> None:
    made = model()
    around = replace(context(made), calibration=None, decisions={"plan-bits": {"Wq": "4/32"}})
    run_steps(made, [("plan-bits", PlanBits.configure({"budget": "bpw=4"}))], around)
    assert around.decisions == {"plan-bits": {"Wq": "4/32"}}
    assert around.notes == []


def test_forms_that_are_none_are_refused() -> None:
    with pytest.raises(BadInput, match="is not of the form BITS/BLOCK"):
        planned("bpw=4", forms="5/32")


def test_branches_give_the_same_on_any_number_of_threads() -> None:
    made = model()
    node = next(node for node in made.graph if node.outputs[0].name == "o")
    logits = made.graph.outputs[0]
    found = []
    for threads in (1, 3):
        branches = Branches(made.graph, context(made).calibration or (), [logits], threads=threads)
        branches.advance([node.inputs[0], node.outputs[0]])
        branches.change("half", node.outputs[0], lambda a: a[..., :64] * 0.5, node.inputs[0])
        found.append(branches.compared(lambda a: a[0], lambda a, b: b[0] - a)["half"])
    assert len(found[0]) == 2
    assert all((one != 0).any() for one in found[0])
    assert all((a == b).all() for a, b in zip(*found, strict=True))
