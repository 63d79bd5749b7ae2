"""A cache of integers: what it takes and gives, how far off it is, in one buffer, where it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes._adapters import QuantizedCache
from graphopt_passes.quantize_kv import QuantizeKv

from graphopt.calibrate import from_arrays
from graphopt.interface import Interface
from graphopt.pipeline import Edit
from graphopt.plugins import adapter_from_json
from graphopt.recipes import Step
from graphopt.runtime import Decoder
from graphopt.testing import session
from graphopt.verify import EditVerifier
from tests.passes._canonical import GEMMA2, Domain, Shape, canonical_decoder
from tests.passes._runs import LOWERING, Lowered

SHAPE = Shape(positions=64)
TOKENS = np.random.default_rng(0).integers(1, SHAPE.vocab, 40)
CHAIN = ("pack-qkv", *LOWERING, "dead-code", "cse")


@pytest.fixture(scope="module")
def plain() -> Lowered:
    return Lowered(SHAPE, *CHAIN)


@pytest.fixture(scope="module")
def quantized() -> Lowered:
    return Lowered(SHAPE, *CHAIN, Step("quantize-kv", {"tokens": 40}))


def noise(lowered: Lowered, name: str) -> float:
    """The error of an output of a first prompt, root mean square over root mean square, at its worst."""
    reference = Lowered(lowered.shape)
    worst = 0.0
    for case in Domain(lowered.shape).cases(np.random.default_rng(1)):
        if not case.name.startswith("prefill"):
            continue  # its past is random, not the model's own
        expected, got = reference.run(case.feeds)[name], lowered.run(case.feeds)[name]
        where = np.broadcast_to(case.compare[name], expected.shape)
        error, size = (got - expected)[where], expected[where]
        worst = max(worst, float(np.sqrt((error**2).mean() / (size**2).mean())))
    return worst


def test_every_layer_takes_and_gives_int8(quantized: Lowered) -> None:
    opened = session(quantized.model)
    kinds = {spec.name: spec.type for spec in [*opened.get_inputs(), *opened.get_outputs()]}

    assert {kind for name, kind in kinds.items() if name.startswith(("past", "present"))} == {"tensor(int8)"}
    assert kinds["logits"] == "tensor(float)"
    assert sum(isinstance(a, QuantizedCache) for a in quantized.result.adapters) == SHAPE.layers


def test_with_four_bits_two_integers_share_a_byte() -> None:
    lowered = Lowered(SHAPE, *CHAIN, Step("quantize-kv", {"tokens": 40, "bits": 4}))
    caches = {s.name: s for s in session(lowered.model).get_inputs() if s.name.startswith("past")}

    assert {(spec.type, spec.shape[3]) for spec in caches.values()} == {("tensor(uint8)", SHAPE.head // 2)}
    assert 0.05 < noise(lowered, "logits") < 0.3
    assert 0.05 < noise(lowered, "present.0.key") < 0.3


@pytest.mark.parametrize("shape", [SHAPE, GEMMA2], ids=["llama", "gemma2"])
def test_what_it_says_through_its_adapters_is_close(shape: Shape) -> None:
    lowered = Lowered(shape, *CHAIN, Step("quantize-kv", {"tokens": 40}))

    assert 0 < noise(lowered, "logits") < 0.05
    assert 0 < noise(lowered, "present.0.key") < 0.05


def test_scales_that_are_too_small_are_seen() -> None:
    lowered = Lowered(SHAPE, *CHAIN, Step("quantize-kv", {"tokens": 40, "margin": 0.1}))

    assert noise(lowered, "logits") > 0.05


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("capacity", [None, 40, 64], ids=["growing", "shared", "shared-with-room"])
def test_decoding_with_one_buffer(plain: Lowered, capacity: int | None, bits: int) -> None:
    lowered = Lowered(SHAPE, *CHAIN, Step("quantize-kv", {"tokens": 40, "bits": bits}))
    exact, decoder = Decoder(session(plain.model)), Decoder(session(lowered.model), capacity=capacity)
    pieces = np.split(TOKENS, [20, 21, 22, 30])
    expected, got = (
        np.concatenate([d.append(p, keep=len(p))[0].copy() for p in pieces]) for d in (exact, decoder)
    )

    assert 0 < (got - expected).std() < {8: 0.02, 4: 0.3}[bits] * expected.std()
    whole = Decoder(session(lowered.model)).append(TOKENS, keep=40)[0]
    np.testing.assert_allclose(got, whole, atol=1e-4)


def test_pairs_that_rotate_into_each_other_share_a_scale() -> None:
    """Far beyond the texts the scales come from, slow pairs are at angles that were not seen."""
    shape = Shape(positions=2048)
    lowered = Lowered(shape, *CHAIN, Step("quantize-kv", {"tokens": 8}))
    tokens = np.random.default_rng(5).integers(1, shape.vocab, 2000)
    exact, int8 = (Decoder(session(model)) for model in (Lowered(shape, *CHAIN).model, lowered.model))
    expected, got = exact.append(tokens), int8.append(tokens)
    key = lowered.context.decisions["quantize-kv"]["past_key_values.0.key"]

    assert key[:8] == key[8:16]
    assert np.abs(got - expected).std() < 0.05 * expected.std()


def test_scales_are_decisions(quantized: Lowered) -> None:
    decided = quantized.context.decisions["quantize-kv"]

    assert set(decided) == {f"past_key_values.{i}.{kind}" for i in range(2) for kind in ("key", "value")}
    assert all(len(v) == SHAPE.kv_heads * SHAPE.head and min(v) > 0 for v in decided.values())


def test_scales_are_those_of_the_calibration_text() -> None:
    made = Lowered(SHAPE, *CHAIN)
    case = next(c for c in Domain(SHAPE).cases(np.random.default_rng(1)) if c.name.startswith("prefill"))
    data = from_arrays("text", [case.feeds], Interface.of(canonical_decoder(SHAPE)))
    context = replace(made.context, calibration=data, decisions={})
    edits = [edit for edit in QuantizeKv().edits(made.model.graph, context) if isinstance(edit, Edit)]
    seen = np.abs(made.run(case.feeds)["present.0.value"]).max((0, 2)).ravel()

    assert len(edits) == SHAPE.layers
    np.testing.assert_allclose(context.decisions["quantize-kv"]["past_key_values.0.value"], seen, rtol=6e-3)


def test_the_adapter_survives_json() -> None:
    adapter = QuantizedCache(("k",), ("pk",), 2, (0.1, 0.2, 0.3, 0.4))
    four = replace(adapter, bits=4)
    cache = np.asarray([[[[0.31, -9.0]], [[50.0, 0.0]]]], np.float32)
    again = adapter_from_json(adapter.to_json())
    fed: Any = again.feeds({"k": cache})["k"]

    assert again == adapter
    np.testing.assert_array_equal(fed, [[[[3, -45]], [[127, 0]]]])
    np.testing.assert_allclose(again.results({"pk": fed})["pk"], [[[[0.3, -9.0]], [[38.1, 0.0]]]], rtol=1e-6)
    assert adapter_from_json(four.to_json()) == four
    halves: Any = four.feeds({"k": cache})["k"]
    np.testing.assert_array_equal(halves, [[[[3 + 8]], [[15 + 16 * 8]]]])
    np.testing.assert_allclose(four.results({"pk": halves})["pk"], [[[[0.3, -1.6]], [[2.1, 0.0]]]], rtol=1e-6)


@pytest.fixture(scope="module")
def lowered() -> Iterator[tuple[Lowered, EditVerifier]]:
    made = Lowered(SHAPE, *CHAIN)
    with EditVerifier(Interface.of(canonical_decoder(SHAPE)), Domain(SHAPE)) as verifier:
        yield made, verifier


def swap_scales(edit: Edit) -> None:
    attention = edit.insert[-1]
    keys, values = attention.inputs[12:14]
    attention.replace_input_with(12, values)
    attention.replace_input_with(13, keys)


def one_scale_short(edit: Edit) -> None:
    tensor = edit.initializers[0].const_value
    assert tensor is not None
    scale = tensor.numpy().copy()
    scale.flat[-1] *= 4
    edit.initializers[0].const_value = ir.tensor(scale)


def swap_caches(edit: Edit) -> None:
    attention = edit.insert[-1]
    keys, values = attention.inputs[3:5]
    attention.replace_input_with(3, values)
    attention.replace_input_with(4, keys)


def scale_scores_otherwise(edit: Edit) -> None:
    edit.insert[-1].attributes["scale"] = ir.AttrFloat32("scale", 1.0)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(
    ("plant", "status"),
    [
        (lambda edit: None, "within budget"),
        (swap_scales, "failed"),
        (one_scale_short, "failed"),
        (swap_caches, "failed"),
        (scale_scores_otherwise, "failed"),
    ],
    ids=["right", "scales-swapped", "one-scale-wrong", "caches-swapped", "other-scale-of-scores"],
)
def test_an_edit_is_run_beside_the_float_cache(
    lowered: tuple[Lowered, EditVerifier], plant: Callable[[Edit], None], status: str, bits: Literal[8, 4]
) -> None:
    made, verifier = lowered
    of = QuantizeKv(QuantizeKv.Options(bits=bits))
    context = replace(made.context, decisions={})
    edit, *_ = (e for e in of.edits(made.model.graph, context) if isinstance(e, Edit))
    plant(edit)
    uses = {value: value.uses() for value in made.model.graph.inputs}
    taken = list(edit.insert[-1].inputs)

    found = verifier.check(made.model, edit, of.effective_contract(), made.result.adapters)

    assert found.status == status, found
    assert list(edit.insert[-1].inputs) == taken
    assert {value: value.uses() for value in made.model.graph.inputs} == uses


def test_it_is_not_done_twice(quantized: Lowered) -> None:
    twice = Lowered(SHAPE, *CHAIN, Step("quantize-kv", {"tokens": 8}), Step("quantize-kv", {"tokens": 8}))

    assert twice.result.records[-1].applied == 0
    assert "its cache is quantized already" in twice.near_misses()
