"""Decoders from their sizes alone are those that packages of them hold, node by node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from graphopt.cost import GraphWork, NodeWork, decoder_work, work_of
from graphopt.io import read_json
from graphopt.ir import load_model
from tests.cost.test_package import FORMS, rounded


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
    ],
)
def test_of_other_kinds(
    kind: str, config: dict[str, bool], cached: Callable[[str, Callable[[Path], None]], Path]
) -> None:
    def build(folder: Path) -> None:
        from graphopt import optimize
        from tests._models import write_model

        write_model(kind, folder / "source", **config)
        optimize(folder / "source", folder / "package", recipe="lossless", verify="off", validate=False)

    folder = cached(f"{kind}-as-told", build)
    told = decoder_work(read_json(folder / "source" / "config.json"))
    same(work_of(load_model(folder / "package" / "model.onnx")), told)
