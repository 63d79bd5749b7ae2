"""Every family's export agrees with PyTorch in every legal call; the comparison can tell if one does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests._models import HEADS, KINDS
from tests.export._exports import TOLERANCE, Built, build, worst_difference

DECODERS = tuple(kind for kind, made in KINDS.items() if made.auto == "AutoModelForCausalLM")
CAUSAL_CASES = {
    "prefill",
    "prefill-batch",
    "prefill-left-padded",
    "prefill-right-padded",
    "chunk",
    "chunk-left-padded",
    "decode",
    "decode-batch",
    "decode-left-padded",
    "decode-right-padded",
}


@pytest.fixture
def made(cached: Callable[..., Path], tiny_model: Callable[..., Path]) -> Callable[[str], Built]:
    return lambda kind: build(cached, tiny_model(kind), kind)


@pytest.mark.parametrize("kind", KINDS | HEADS)
def test_export_agrees_with_pytorch_in_every_legal_call(kind: str, made: Callable[[str], Built]) -> None:
    built = made(kind)
    reference = built.family.reference(built.source, built.task, built.interface)
    cases = built.cases()

    differences = {
        name: worst_difference(built.run(case.feeds), reference(case.feeds), case)
        for name, case in cases.items()
    }

    assert {name: d for name, d in differences.items() if d > TOLERANCE} == {}
    if kind in DECODERS:
        assert cases.keys() >= CAUSAL_CASES


def test_a_real_encoder_agrees_with_pytorch(cached: Callable[..., Path], minilm: Path) -> None:
    built = build(cached, minilm, "minilm")
    assert built.task == "sentence-similarity"
    assert [spec.name for spec in built.interface.outputs] == ["last_hidden_state", "sentence_embedding"]
    reference = built.family.reference(built.source, built.task, built.interface)
    for case in built.cases().values():
        assert worst_difference(built.run(case.feeds), reference(case.feeds), case) < TOLERANCE


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_has_the_interface_that_genai_expects(kind: str, made: Callable[[str], Built]) -> None:
    interface = made(kind).interface
    heads, head_size = (4, 16) if kind == "gpt2" else (2, 16)
    past, present = ("batch", heads, "past", head_size), ("batch", heads, "total", head_size)
    states = [(i, part) for i in (0, 1) for part in ("key", "value")]
    assert {spec.name: (spec.dtype, spec.dims) for spec in interface.inputs} == {
        "input_ids": ("int64", ("batch", "sequence")),
        "attention_mask": ("int64", ("batch", "total")),
        "position_ids": ("int64", ("batch", "sequence")),
    } | {f"past_key_values.{i}.{part}": ("float32", past) for i, part in states}
    assert {spec.name: (spec.dtype, spec.dims) for spec in interface.outputs} == {
        "logits": ("float32", ("batch", "sequence", 4096))
    } | {f"present.{i}.{part}": ("float32", present) for i, part in states}


PADDED = ("prefill-left-padded", "decode-left-padded", "decode-right-padded", "chunk-left-padded")


@pytest.mark.parametrize("case", PADDED)
def test_the_comparison_fails_when_the_mask_is_dropped(case: str, made: Callable[[str], Built]) -> None:
    built = made("llama")
    reference = built.family.reference(built.source, built.task, built.interface)
    call = built.cases()[case]
    unmasked = dict(call.feeds) | {"attention_mask": np.ones_like(call.feeds["attention_mask"])}
    assert worst_difference(built.run(unmasked), reference(call.feeds), call) > 100 * TOLERANCE


@pytest.mark.parametrize("case", PADDED)
def test_the_comparison_fails_when_positions_ignore_padding(case: str, made: Callable[[str], Built]) -> None:
    built = made("llama")
    reference = built.family.reference(built.source, built.task, built.interface)
    call = built.cases()[case]
    ids = call.feeds["input_ids"]
    past = call.feeds["attention_mask"].shape[1] - ids.shape[1]
    counted = np.broadcast_to(past + np.arange(ids.shape[1]), ids.shape)
    wrong = dict(call.feeds) | {"position_ids": counted}
    assert worst_difference(built.run(wrong), reference(call.feeds), call) > 100 * TOLERANCE


def test_the_comparison_fails_when_an_encoder_sees_padding(made: Callable[[str], Built]) -> None:
    built = made("bert")
    reference = built.family.reference(built.source, built.task, built.interface)
    call = built.cases()["right-padded"]
    unmasked = dict(call.feeds) | {"attention_mask": np.ones_like(call.feeds["attention_mask"])}
    assert worst_difference(built.run(unmasked), reference(call.feeds), call) > 100 * TOLERANCE


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
def test_the_calls_are_long_enough_for_the_sliding_window(
    kind: str, made: Callable[[str], Built], tmp_path: Path
) -> None:
    built = made(kind)
    shutil.copytree(built.source, tmp_path / "wide")
    config = json.loads((tmp_path / "wide" / "config.json").read_text())
    (tmp_path / "wide" / "config.json").write_text(json.dumps(config | {"sliding_window": 4096}))
    wide = built.family.reference(tmp_path / "wide", built.task, built.interface)
    for name in ("prefill-long", "chunk", "decode"):
        call = built.cases()[name]
        assert worst_difference(built.run(call.feeds), wide(call.feeds), call) > 100 * TOLERANCE


def test_continuing_in_chunks_gives_what_one_call_gives(made: Callable[[str], Built]) -> None:
    """The graph's own results fed back: 5 tokens, a chunk of 4, then single ones, against one call of 12."""
    built = made("gemma2")
    whole = built.cases()["prefill-long"].feeds
    ids = whole["input_ids"][:, :12]
    state = {spec.name: np.zeros((1, 2, 0, 16), np.float32) for spec in built.interface.matching("past.*")}

    def call(start: int, stop: int, past: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        feeds = {
            "input_ids": ids[:, start:stop],
            "attention_mask": np.ones((1, stop), np.int64),
            "position_ids": np.arange(start, stop)[None],
        }
        return built.run(feeds | past)

    expected = call(0, 12, state)["logits"]
    pieces = []
    for start, stop in ((0, 5), (5, 9), (9, 10), (10, 11), (11, 12)):
        results = call(start, stop, state)
        pieces.append(results["logits"])
        state = {
            name.replace("present", "past_key_values"): array
            for name, array in results.items()
            if name != "logits"
        }
    assert np.abs(np.concatenate(pieces, axis=1) - expected).max() < TOLERANCE
