"""Decoders that carry more than keys and values: their exports agree with PyTorch in every legal call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from graphopt import BadInput
from graphopt.export._skeleton import build_skeleton
from graphopt.ir import load_model
from graphopt.plugins.registry import families
from graphopt.runtime import Decoder
from graphopt.testing import session
from tests._models import STATEFUL
from tests.export._exports import TOLERANCE, Built, build, worst_difference

CASES = {
    *("prefill", "prefill-long", "prefill-batch", "prefill-left-padded", "chunk", "chunk-left-padded"),
    *("decode", "decode-batch", "decode-left-padded"),
}
RECURRENT = [kind for kind in STATEFUL if kind != "deepseek_v32"]
STATES: dict[str, dict[str, tuple[int | str, ...]]] = {
    "lfm2": {"0.conv_state": (64, 2), "1.key": (2, "past", 16), "1.value": (2, "past", 16)},
    "qwen3_5": {
        "0.conv_state": (96, 3),
        "0.recurrent_state": (4, 8, 16),
        "1.key": (2, "past", 16),
        "1.value": (2, "past", 16),
    },
    "falcon_h1": {
        "0.key": (2, "past", 16),
        "0.value": (2, "past", 16),
        "0.conv_state": (96, 3),
        "0.recurrent_state": (4, 16, 8),
    },
    "mamba": {
        f"{n}.{kind}": (64, size)
        for n in (0, 1)
        for kind, size in (("conv_state", 3), ("recurrent_state", 4))
    },
    "deepseek_v32": {"0.key": (1, "past", 16), "0.value": (1, "past", 16), "0.indexer_key": ("past", 32)},
}


@pytest.fixture
def made(cached: Callable[..., Path], tiny_model: Callable[..., Path]) -> Callable[[str], Built]:
    return lambda kind: build(cached, tiny_model(kind), kind)


@contextlib.contextmanager
def first_of_equals() -> Iterator[None]:
    """Inside, PyTorch's topk takes the first of equal scores, as ONNX's does; of itself it takes any.

    An indexer with two heads gives many positions a score of exactly zero.
    """

    def topk(scores: torch.Tensor, k: int, dim: int = -1, **options: Any) -> Any:
        values, indices = scores.sort(dim=dim, descending=True, stable=True)
        return torch.return_types.topk((values.narrow(dim, 0, k), indices.narrow(dim, 0, k)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "topk", topk)
        yield


@pytest.mark.parametrize("kind", STATEFUL)
def test_export_agrees_with_pytorch_in_every_legal_call(kind: str, made: Callable[[str], Built]) -> None:
    built = made(kind)
    reference = built.family.reference(built.source, built.task, built.interface)
    cases = built.cases()

    with first_of_equals():
        differences = {
            name: worst_difference(built.run(case.feeds), reference(case.feeds), case)
            for name, case in cases.items()
        }

    assert {name: d for name, d in differences.items() if d > TOLERANCE} == {}
    assert cases.keys() >= CASES


def test_an_indexer_drops_positions(made: Callable[[str], Built], tiny_model: Callable[..., Path]) -> None:
    built = made("deepseek_v32")
    keeps_all = tiny_model("deepseek_v32", index_topk=64)
    reference = built.family.reference(keeps_all, built.task, built.interface)
    call = built.cases()["chunk"]
    assert worst_difference(built.run(call.feeds), reference(call.feeds), call) > 100 * TOLERANCE


def test_limits_of_a_time_step_hold_where_transformers_holds_them(
    cached: Callable[..., Path], tiny_model: Callable[..., Path]
) -> None:
    """Everywhere but for one token after a past: there transformers itself differs from its other form."""
    built = build(cached, tiny_model("falcon_h1", time_step_limit=[0.7, 0.8]), "falcon_h1-limited")
    reference = built.family.reference(built.source, built.task, built.interface)
    unlimited = built.family.reference(tiny_model("falcon_h1"), built.task, built.interface)
    domain: Any = built.family.input_domain(built.interface, built.config)
    one_token = domain.case(np.random.default_rng(0), "one-token", [1])

    for case in (*built.cases().values(), one_token):
        results = built.run(case.feeds)
        assert worst_difference(results, reference(case.feeds), case) < TOLERANCE, case.name
        difference = worst_difference(results, unlimited(case.feeds), case)
        assert (difference < TOLERANCE) is case.name.startswith("decode"), case.name


@pytest.mark.parametrize("kind", STATEFUL)
def test_the_states_are_named_and_sized(kind: str, made: Callable[[str], Built]) -> None:
    interface = made(kind).interface
    assert {spec.name: spec.dims for spec in interface.matching("past.*")} == {
        f"past_key_values.{name}": ("batch", *dims) for name, dims in STATES[kind].items()
    }
    assert {spec.name for spec in interface.outputs} == {"logits"} | {f"present.{n}" for n in STATES[kind]}


@pytest.mark.parametrize("kind", RECURRENT)
def test_pieces_add_up(kind: str, made: Callable[[str], Built]) -> None:
    """The graph's own results fed back: 5 tokens, a chunk of 4, then single ones, against one call of 12."""
    built = made(kind)
    tokens = built.cases()["prefill-long"].feeds["input_ids"][:, :12]
    decoder = Decoder(session(load_model(built.file)))

    def fed(*sizes: int) -> Any:
        decoder.reset()
        pieces = np.split(tokens, np.cumsum(sizes)[:-1], axis=1)
        return np.concatenate([decoder.append(piece, keep=piece.shape[1]).copy() for piece in pieces], axis=1)

    assert np.abs(fed(5, 4, 1, 1, 1) - fed(12)).max() < TOLERANCE


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("case", ["chunk", "decode-batch"])
def test_the_comparison_fails_when_a_state_is_dropped(
    kind: str, case: str, made: Callable[[str], Built]
) -> None:
    built = made(kind)
    reference = built.family.reference(built.source, built.task, built.interface)
    call = built.cases()[case]
    states = [spec for spec in built.interface.matching("past.*") if "past" not in spec.dims]
    for spec in states:
        dropped = dict(call.feeds) | {spec.name: np.zeros_like(call.feeds[spec.name])}
        assert worst_difference(built.run(dropped), reference(call.feeds), call) > 100 * TOLERANCE


@pytest.mark.parametrize("kind", RECURRENT)
def test_the_comparison_fails_when_padding_runs_into_a_state(kind: str, made: Callable[[str], Built]) -> None:
    built = made(kind)
    reference = built.family.reference(built.source, built.task, built.interface)
    call = built.cases()["prefill-left-padded"]
    unmasked = dict(call.feeds) | {"attention_mask": np.ones_like(call.feeds["attention_mask"])}
    assert worst_difference(built.run(unmasked), reference(call.feeds), call) > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("model_type", "config", "reason"),
    [
        ("rwkv", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 64}, "takes no cache"),
    ],
)
def test_a_state_outside_of_the_cache_is_refused(
    model_type: str, config: dict[str, Any], reason: str
) -> None:
    made = transformers.AutoConfig.for_model(model_type, **config)
    model = build_skeleton(transformers.AutoModelForCausalLM, made).model
    family = families()["causal-lm"]()

    with family.tracing(model), pytest.raises(BadInput, match=reason):
        family.export_inputs(model, "text-generation")
