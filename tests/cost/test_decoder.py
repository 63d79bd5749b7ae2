"""Decoders from their sizes alone are those that packages of them hold, node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from graphopt.cost import SHAPES, Call, DecoderShape, GraphWork, NodeWork, data_bytes, decoder_work, work_of
from graphopt.cost._decoder_shape import TRAITS
from graphopt.errors import BadInput
from graphopt.io import read_json
from graphopt.ir import load_model
from tests._cache import ROOT
from tests.cost.test_package import FORMS, rounded

HALF_ROTATED = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}


def about(node: NodeWork) -> object:
    """All of a node but names, and the constants that operators without weights hold."""
    product = node.product and replace(node.product, name="")
    read = sum(use.bytes for use in node.weights) if node.kind != "other" else 0
    results = [(one.shape, one.bits) for one in node.results]
    return node.operator, node.kind, results, product, node.attention, read


def same(read: GraphWork, told: GraphWork) -> None:
    assert read.unknown == ()
    assert [about(node) for node in read.nodes] == [about(node) for node in told.nodes]
    assert read.vocabulary == told.vocabulary
    assert [cache.shape for cache in read.caches] == [cache.shape for cache in told.caches]


@pytest.mark.parametrize("recipe", FORMS)
def test_of_the_embedded_model(recipe: str, tiny_coder: Path, tiny_coder_at: Callable[[str], Path]) -> None:
    told = rounded(decoder_work(read_json(tiny_coder / "config.json")), FORMS[recipe])
    same(work_of(load_model(tiny_coder_at(recipe) / "model.onnx")), told)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("mistral", {}),
        ("qwen2", {"tie_word_embeddings": False}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"hidden_act": "gelu"}),
        ("qwen3", {"attention_bias": True}),
        ("phi3", {"num_attention_heads": 2, "num_key_value_heads": 1, "rope_parameters": HALF_ROTATED}),
        ("phi3-long", {}),
        ("gemma", {}),
        ("gemma2", {}),
        ("gemma3", {}),
        ("mixtral", {}),
        ("qwen3_moe", {}),
        ("qwen3_moe", {"norm_topk_prob": True, "tie_word_embeddings": False}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_of_other_kinds(
    kind: str, config: dict[str, Any], cached: Callable[[str, Callable[[Path], None]], Path]
) -> None:
    def build(folder: Path) -> None:
        from graphopt import optimize
        from tests._models import write_model

        write_model(kind, folder / "source", **config)
        optimize(folder / "source", folder / "package", recipe="lossless", verify="off", validate=False)

    folder = cached(f"{'-'.join((kind, *config))}-as-told", build)
    told = decoder_work(read_json(folder / "source" / "config.json"))
    read = work_of(load_model(folder / "package" / "model.onnx"))
    same(read, told)
    assert told.weight_bytes == read.weight_bytes
    assert data_bytes(told) == (folder / "package" / "model.onnx.data").stat().st_size


SIZES = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "sliding_window": 8,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}


@pytest.mark.parametrize(
    ("kind", "config", "slide"),
    [
        ("mistral", {}, range(7)),
        ("qwen2", {}, ()),
        ("qwen3", {"use_sliding_window": True, "max_window_layers": 5}, (5, 6)),
        ("gemma", {}, ()),
        ("llama", {}, ()),
        ("gemma2", {}, (0, 2, 4, 6)),
        ("gemma3_text", {}, (0, 1, 2, 3, 4, 6)),
        ("gemma3_text", {"sliding_window_pattern": 3}, (0, 1, 3, 4, 6)),
        ("gemma2", {"layer_types": ["full_attention"] * 6 + ["sliding_attention"]}, (6,)),
    ],
)
def test_windows_of_what_the_hub_says_nothing_of(
    kind: str, config: Mapping[str, Any], slide: tuple[int, ...]
) -> None:
    shape = DecoderShape.of({"model_type": kind, **SIZES, **config})
    assert [layer for layer, window in enumerate(shape.window) if window] == list(slide)


def test_gemma_has_heads_and_a_tied_table_where_nothing_is_said() -> None:
    shape = DecoderShape.of({"model_type": "gemma2", **SIZES})
    assert (shape.head_size, shape.tied) == (256, True)
    assert not DecoderShape.of({"model_type": "llama", **SIZES}).tied


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "olmoe"}, "type 'olmoe'"),
        ({"model_type": "llama", "hidden_act": "relu"}, "activation 'relu'"),
        ({"model_type": "mixtral", "hidden_act": "gelu", **EXPERTS}, "activation 'gelu'"),
        ({"model_type": "phi3", "partial_rotary_factor": 0.5}, "of heads of 16 8 are rotated"),
        ({"model_type": "llama", "head_dim": 24}, "of heads of 24 24 are rotated"),
        ({"model_type": "mixtral"}, "num_local_experts"),
    ],
)
def test_what_no_graph_is_known_of_is_refused(config: Mapping[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        DecoderShape.of(SIZES | config)


def test_all_that_is_known_is_named() -> None:
    with pytest.raises(BadInput) as found:
        DecoderShape.of({"model_type": "olmoe"})
    document = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
    for kind in TRAITS:
        assert f"{kind}," in str(found.value.hint) or f"{kind} they" in str(found.value.hint)
        assert f"`{kind}`" in document


def test_experts_by_hand() -> None:
    """Qwen3-30B-A3B (https://huggingface.co/Qwen/Qwen3-30B-A3B): 30.5 billion weights, 3.3 of them active."""
    work = decoder_work(SHAPES["qwen3-30b-a3b"])
    held = work.weight_bytes / 4e9
    assert held == pytest.approx(30.5, abs=0.1)
    table = 151936 * 2048 / 1e9  # of which a token reads a row
    assert work.read(Call()) / 4e9 + table == pytest.approx(3.35, abs=0.05)
    expert = 3 * 2048 * 768 * 48 / 1e9
    alone = work.read(Call()) / 4e9
    for batch in (2, 16, 256):
        read = work.read(Call(batch)) / 4e9
        distinct = 128 * (1 - (1 - 8 / 128) ** batch)  # of experts that some text chooses
        assert read - alone == pytest.approx((distinct - 8) * expert, rel=0.002)
    assert work.flops(Call(16)) == 16 * work.flops(Call())
