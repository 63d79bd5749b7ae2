"""Rounding that is learned: nearer to the source on what it has not seen, the same every time, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from graphopt_passes import _learned, _learned_graph, _torch_graph, quantize_weights
from graphopt_passes._forms import Form
from graphopt_passes._learned import Learning, Unit, learn
from graphopt_passes._learned_weight import LearnedWeight
from graphopt_passes._nbits import Packed, quantize_rows, unpacked

from graphopt.calibrate import CalibrationData
from graphopt.ir import ConstantMatrix, constant_matrix, evaluate, parse
from graphopt.pipeline import Context
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests.passes._canonical import Call, Domain, Shape, canonical_decoder

Array = np.ndarray[Any, Any]
SHAPE = Shape(layers=1)
FEW = Learning(steps=60, rate=0.02)


def _context(model: ir.Model, calls: int = 10) -> Context:
    rng, domain = np.random.default_rng(0), Domain(SHAPE)
    feeds = [domain.case(Call("prefill", 1, 12, 0), rng).feeds for _ in range(calls)]
    states = {value.name: "" for value in model.graph.inputs}
    data = CalibrationData("random", "", tuple(feeds), 12 * calls)
    return Context(model, calibration=data, states={str(name): str(name) for name in states})


def _units(graph: ir.Graph, form: Form) -> list[Unit]:
    found = [f for f in map(constant_matrix, graph) if isinstance(f, ConstantMatrix)]
    return [
        Unit(f.name, f.rows, form, quantize_rows(f.rows.read(), form.bits, form.block, zeros=form.zeros))
        for f in found
    ]


def _with(model: ir.Model, made: dict[str, Array]) -> ir.Model:
    """`model` with other weights [N, K] for its products."""
    changed = canonical_decoder(SHAPE)
    for name, rows in made.items():
        changed.graph.initializers[name].const_value = ir.tensor(np.ascontiguousarray(rows.T))
    return changed


def _divergence(model: ir.Model, made: dict[str, Array]) -> float:
    """KL to the source's logits, on calls that nothing was learned on."""
    rng = np.random.default_rng(9)
    total = 0.0
    for _ in range(4):
        feeds = Domain(SHAPE).case(Call("prefill", 3, 12, 0), rng).feeds
        true, got = (
            torch.from_numpy(evaluate(m, feeds)[0]).log_softmax(-1) for m in (model, _with(model, made))
        )
        total += (true.exp() * (true - got)).sum(-1).mean().item()
    return total


@pytest.mark.parametrize("form", ["2/16", "2/16z", "4/32"])
def test_learned_rounding_is_nearer_to_the_source(form: str) -> None:
    model, kind = canonical_decoder(SHAPE), Form.parse(form)
    units = _units(model.graph, kind)
    made = learn(model.graph, units, _context(model), FEW)
    assert made.keys() == {unit.name for unit in units}
    width = {unit.name: unit.rows.shape[1] for unit in units}
    before = {u.name: unpacked(u.packed, kind.bits, width[u.name]) for u in units}
    after = {name: unpacked(packed, kind.bits, width[name]) for name, packed in made.items()}
    assert _divergence(model, after) < 0.9 * _divergence(model, before)
    for unit in units:
        packed = made[unit.name]
        assert packed.weight.shape == unit.packed.weight.shape
        assert packed.scales.dtype == np.float32
        assert (packed.zeros is None) == (not kind.zeros)


@pytest.mark.parametrize("loss", ["_divergence", "_off"])
def test_what_is_sent_back_is_the_gradient_of_the_loss(loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    got, wanted = torch.randn(2, 2, 3, 50, generator=generator, dtype=torch.float64)
    got.requires_grad_()
    (gradient,) = torch.autograd.grad(getattr(_learned_graph, loss)(got, wanted), got)
    torch.testing.assert_close(getattr(_learned_graph, f"{loss}_slope")(got.detach(), wanted), gradient)


def test_the_pass_packs_what_is_learned_from_gptq(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[Unit], Mapping[str, Packed]]] = []

    def recorded(graph: ir.Graph, units: list[Unit], *rest: Any) -> Mapping[str, Packed]:
        asked.append((units, learn(graph, units, *rest)))
        return asked[-1][1]

    monkeypatch.setattr(quantize_weights, "learn", recorded)
    learned, gptq = _packed_by_the_pass("learned"), _packed_by_the_pass("gptq")
    ((units, made),) = asked
    assert made
    for unit in units:
        assert np.array_equal(learned[f"{unit.name}/q2"], made[unit.name].weight)
        assert np.array_equal(learned[f"{unit.name}/scales"], made[unit.name].scales)
    first = units[0]  # what is before it is not quantized by either
    assert np.array_equal(gptq[f"{first.name}/q2"], first.packed.weight)


def test_the_pass_rounds_by_gptq_what_is_too_large_to_be_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    gptq = _packed_by_the_pass("gptq")
    monkeypatch.setattr(_learned, "_MOST", 1000)
    monkeypatch.setattr(quantize_weights, "learn", None)  # nothing is packed before that is known
    notes: list[str] = []
    instead = _packed_by_the_pass("learned", notes)
    assert any("not learned" in note and "too many" in note for note in notes)
    assert instead.keys() == gptq.keys()
    assert all(np.array_equal(instead[name], gptq[name]) for name in gptq)


def _packed_by_the_pass(rounding: str, notes: list[str] | None = None) -> dict[str, Array]:
    model = canonical_decoder(SHAPE)
    context = _context(model, 40)
    options = {"bits": 2, "block_size": 16, "rounding": rounding, "steps": FEW.steps, "smallest": 1}
    recipe = Recipe("test", "", Budget(), (Step("quantize-weights", options),))
    run_recipe(model, recipe, context)
    if notes is not None:
        notes += context.notes
    values = model.graph.initializers.values()
    return {str(v.name): v.const_value.numpy() for v in values if v.const_value is not None}


def test_the_pass_rounds_to_nearest_where_nothing_can_be_learned() -> None:
    model, form = canonical_decoder(SHAPE), Form.parse("4/16")
    nearest = {unit.name: unit.packed for unit in _units(model.graph, form)}
    context = Context(model)
    options = {"block_size": 16, "rounding": "learned", "smallest": 1}
    run_recipe(model, Recipe("test", "", Budget(), (Step("quantize-weights", options),)), context)
    for name, weight in nearest.items():
        assert np.array_equal(model.graph.initializers[f"{name}/q4"].const_value.numpy(), weight.weight)
    assert any("nothing to learn it on" in note for note in context.notes)


@pytest.mark.parametrize(("form", "level", "block"), [("4/16", 4, 16), ("8/16", 4, None), ("4/16", 0, None)])
def test_activations_are_rounded_in_learning_where_the_kernel_rounds_them(
    form: str, level: int, block: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside 8-bit weights the kernel takes 16 bits of x, at level 0 all of them."""
    asked: list[Mapping[Any, int | None]] = []

    class Recorded(_torch_graph.TorchGraph):
        def __init__(
            self, graph: ir.Graph, outputs: Any, blocks: Mapping[Any, int | None], *rest: Any
        ) -> None:
            asked.append(blocks)
            super().__init__(graph, outputs, blocks, *rest)

    monkeypatch.setattr(_torch_graph, "TorchGraph", Recorded)
    model = canonical_decoder(SHAPE)
    units = _units(model.graph, Form.parse(form))
    learn(model.graph, units, _context(model), replace(FEW, steps=2, level=level))
    assert [set(blocks.values()) for blocks in asked] == [{block}]


def test_learned_rounding_is_the_same_every_time() -> None:
    model = canonical_decoder(SHAPE)
    units = _units(model.graph, Form.parse("4/16"))
    threads = torch.get_num_threads()
    first = learn(model.graph, units, _context(model), replace(FEW, steps=5))
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        second = learn(model.graph, units, _context(model), replace(FEW, steps=5))
    finally:
        torch.set_num_threads(threads)
    for name, packed in first.items():
        assert np.array_equal(packed.weight, second[name].weight)
        assert np.array_equal(packed.scales, second[name].scales)


def test_what_is_packed_is_what_was_measured() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((6, 40), np.float32)
    for form in map(Form.parse, ("4/16", "2/32z", "8/16")):
        weight = LearnedWeight(torch.from_numpy(rows), form, _packed(rows, form))
        start = weight.rounded()
        np.testing.assert_array_equal(start.numpy(), unpacked(_packed(rows, form), form.bits, 40))
        for _ in range(30):
            weight.move(torch.from_numpy(rng.standard_normal((6, 40), np.float32)), 0.3)
        moved = weight.rounded()
        assert not torch.equal(start, moved)
        np.testing.assert_array_equal(moved.numpy(), unpacked(weight.packed(), form.bits, 40))


def _packed(rows: Array, form: Form) -> Packed:
    return quantize_rows(rows.copy(), form.bits, form.block, zeros=form.zeros)


def test_an_operator_that_is_not_known_leaves_the_rounding_as_it_is() -> None:
    model = parse("""
        <ir_version: 10, opset_import: ["" : 23]>
        g (float[B,2] x) => (float[B,2] y) <float[2,2] w = {1, 2, 3, 4}> { m = MatMul(x, w)  y = Round(m) }
    """)
    _refused(model, [{"x": np.ones((1, 2), np.float32)}] * 5, "no Round in PyTorch")


def test_a_spelling_that_is_not_foreseen_leaves_the_rounding_as_it_is() -> None:
    model = parse("""
        <ir_version: 10, opset_import: ["" : 23]>
        g (float[B,2] x) => (float[B,2] y) <float[2,2] w = {1, 2, 3, 4}> {
          m = MatMul(x, w)  c = Cast<to = 2>(m)  y = Cast<to = 1>(c)
        }
    """)
    _refused(model, [{"x": np.ones((1, 2), np.float32)}] * 5, "PyTorch does not take it: KeyError")


def test_a_graph_that_pytorch_computes_otherwise_is_left() -> None:
    model = parse("""
        <ir_version: 10, opset_import: ["" : 23]>
        g (float[B,2] x) => (float[B,2] y) <float[2,2] w = {1, 2, 3, 4}> { m = MatMul(x, w)  y = Sqrt(m) }
    """)
    _refused(model, [{"x": np.float32([[-1, -1]])}] * 5, "PyTorch computes other outputs")


def test_too_few_calls_leave_the_rounding_as_it_is() -> None:
    model = canonical_decoder(SHAPE)
    context = _context(model, 3)
    assert not learn(model.graph, _units(model.graph, Form.parse("4/16")), context)
    assert "3 calls" in context.notes[0]


def test_no_calibration_data_leave_the_rounding_as_it_is() -> None:
    model = canonical_decoder(SHAPE)
    context = Context(model)
    assert not learn(model.graph, _units(model.graph, Form.parse("4/16")), context)
    assert "nothing to learn it on" in context.notes[0]


def test_without_pytorch_the_rounding_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model = canonical_decoder(SHAPE)
    context = _context(model)
    monkeypatch.setattr(_learned.importlib.util, "find_spec", lambda _: None)
    assert not learn(model.graph, _units(model.graph, Form.parse("4/16")), context)
    assert "PyTorch, which is not installed" in context.notes[0]


def test_what_is_no_nearer_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = canonical_decoder(SHAPE)
    context = _context(model)
    assert not learn(model.graph, _units(model.graph, Form.parse("4/16")), context, replace(FEW, rate=5.0))
    assert "on calls held out" in context.notes[0]


def test_large_models_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    model = canonical_decoder(SHAPE)
    context = _context(model)
    monkeypatch.setattr(_learned, "_MOST", 1000)
    assert not learn(model.graph, _units(model.graph, Form.parse("4/16")), context)
    assert "too many to be learned together" in context.notes[0]


def _refused(model: ir.Model, feeds: list[dict[str, Array]], why: str) -> None:
    context = Context(model, calibration=CalibrationData("ones", "", tuple(feeds), len(feeds)))
    assert not learn(model.graph, _units(model.graph, Form.parse("4/16")), context)
    assert len(context.notes) == 1
    assert why in context.notes[0]
