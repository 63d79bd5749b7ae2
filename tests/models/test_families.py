"""Whole families through the main job: exported, lowered, and held to the lossless bounds in every case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import graphopt
from graphopt.ir import load_model

DECODERS = {
    "llama": {"GroupQueryAttention": 2, "SkipSimplifiedLayerNormalization": 4, "QuickGelu": 2},
    "qwen3": {"GroupQueryAttention": 2, "SkipSimplifiedLayerNormalization": 4, "QuickGelu": 2},
    "gemma2": {"GroupQueryAttention": 2, "Gelu": 2},
    "gpt2": {"GroupQueryAttention": 2, "LayerNormalization": 5, "Sum": 5, "Gelu": 2},
    "mistral": {"GroupQueryAttention": 2, "SkipSimplifiedLayerNormalization": 4, "QuickGelu": 2},
}
ENCODERS = {"bert": 2, "roberta": 2, "distilbert": 2, "vit": 2, "clip-vision": 2, "clip": 4}
CASES = {
    "prefill", "prefill-batch", "prefill-left-padded", "prefill-right-padded",
    "chunk", "chunk-left-padded", "decode", "decode-left-padded", "decode-at-the-end",
}  # fmt: skip


def census(package: graphopt.Package) -> Counter[str]:
    return Counter(node.op_type for node in load_model(package.path / "model.onnx").graph)


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_a_decoder_is_lowered_and_lossless(
    kind: str, exported: Callable[[Path], Path], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    package = graphopt.optimize(exported(tiny_model(kind)), tmp_path / "out", recipe="lossless")
    report = package.report()
    assert report.closing.verdict == "passed"
    assert {c.case for c in report.closing.metrics} >= CASES
    assert any(c.output == "logits" and c.metric == "scaled_difference" for c in report.closing.metrics)
    found = census(package)
    assert {op: found[op] for op in DECODERS[kind]} == DECODERS[kind]
    assert not found["Softmax"] + found["Attention"] + found["ReduceMean"]


HYBRIDS = {
    "qwen3_5": {"LinearAttention": 1, "CausalConvWithState": 1, "GroupQueryAttention": 1, "Scan": 0},
    "falcon_h1": {"LinearAttention": 1, "CausalConvWithState": 1, "GroupQueryAttention": 1, "Scan": 0},
    "mamba": {"LinearAttention": 0, "CausalConvWithState": 2, "GroupQueryAttention": 0, "Scan": 2},
}
"""Mamba's first form decays each place of its state by itself, which no kernel does."""


@pytest.mark.parametrize("kind", HYBRIDS)
def test_a_state_has_its_kernel_and_nothing_is_lost(
    kind: str, exported: Callable[[Path], Path], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    package = graphopt.optimize(
        exported(tiny_model(kind)), tmp_path / "out", recipe="lossless", verify="numeric"
    )
    assert package.report().closing.verdict == "passed"
    found = census(package)
    assert {op: found[op] for op in HYBRIDS[kind]} == HYBRIDS[kind]


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_is_lossless(
    kind: str, exported: Callable[[Path], Path], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    package = graphopt.optimize(exported(tiny_model(kind)), tmp_path / "out", recipe="lossless")
    assert package.report().closing.verdict == "passed"
    found = census(package)
    assert found["Attention"] == ENCODERS[kind]
    assert not found["Softmax"] + found["ReduceMean"]


def test_the_quantized_layer_has_five_products_and_no_layout_nodes(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    """The census of one decoder layer: what two layers more add to the graph, halved."""

    def counts(layers: int) -> Counter[str]:
        source = tiny_model("llama", num_hidden_layers=layers)
        out = tmp_path / str(layers)
        return census(graphopt.optimize(source, out, recipe="int4", validate=False))

    more = counts(4)
    more.subtract(counts(2))
    assert {op: n // 2 for op, n in more.items() if n} == {
        "MatMulNBits": 5,
        "GroupQueryAttention": 1,
        "SkipSimplifiedLayerNormalization": 2,
        "QuickGelu": 1,
        "Mul": 1,
    }
