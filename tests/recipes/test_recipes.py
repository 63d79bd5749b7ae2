"""What the recipes' budgets allow, and what the recipes do to real weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.evaluate._texts import built_in_text
from graphopt.families import Case, Reference
from graphopt.metrics import cosine_similarity
from graphopt.plugins import load_recipe, registry
from graphopt.runtime import Tokenizer
from tests.export._exports import worst_difference

LOSSY = [
    name
    for name, path in registry.recipes().items()
    if not load_recipe(str(path)).budget.lossless and name != "kept"  # which leaves plain weights alone
]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", LOSSY)
def test_a_budget_is_at_most_half_more_than_what_tiny_coder_needs(
    recipe: str,
    tiny_coder: Path,
    tiny_coder_at: Callable[[str], Path],
    own_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = tiny_coder_at(recipe)
    if recipe == "int8":  # whose budget is for onnxruntime's kernels, too, which round activations to 8 bits
        shutil.copytree(made.parent / "cache", own_cache, dirs_exist_ok=True)
        monkeypatch.setenv("GRAPHOPT_KERNELS", "onnxruntime")
        made = graphopt.optimize(tiny_coder, tmp_path / "other", recipe=recipe).path
    package = graphopt.Package.load(made)
    on_text = [c for c in package.report().closing.metrics if c.case.startswith("held-out text")]

    assert {c.metric for c in on_text} == {"kl_mean", "kl_p99"}
    assert {c.metric: c.bound / c.value for c in on_text if not 1 < c.bound / c.value <= 1.5} == {}


def legal_calls(package: graphopt.Package, source: Path) -> tuple[Reference, list[Case]]:
    """PyTorch's answer to a call of the encoder at `source`, and the family's calls."""
    family, interface = registry.families()[package.manifest.family or ""](), package.interface()
    domain = family.input_domain(interface, json.loads((source / "config.json").read_text()))
    reference = family.reference(source, package.manifest.task, interface)
    return reference, list(domain.cases(np.random.default_rng(0)))


@pytest.mark.slow
def test_a_real_encoder_is_lossless(exported: Callable[[Path], Path], minilm: Path, tmp_path: Path) -> None:
    package = graphopt.optimize(exported(minilm), tmp_path / "out", recipe="lossless", verify="structure")
    reference, calls = legal_calls(package, minilm)

    assert package.manifest.closing_check == "passed"
    assert max(worst_difference(package.run(c.feeds), reference(c.feeds), c) for c in calls) < 1e-4


@pytest.mark.slow
def test_a_real_encoder_at_8_bits_points_the_same_way(
    exported: Callable[[Path], Path], minilm: Path, tmp_path: Path
) -> None:
    """benchmarks/results/encoder.json has the lowest cosines of the closing check and of sentences."""
    package = graphopt.optimize(exported(minilm), tmp_path / "out", recipe="int8", verify="structure")
    lowest: dict[str, float] = {}
    for c in package.report().closing.metrics:
        assert c.metric == "cosine_min"
        lowest[c.output] = min(lowest.get(c.output, 1.0), c.value)
    assert lowest["last_hidden_state"] == pytest.approx(0.9977, abs=5e-4)
    assert lowest["sentence_embedding"] == pytest.approx(0.9979, abs=5e-4)

    reference, _ = legal_calls(package, minilm)
    feeds = sentences(minilm)
    mask = feeds["attention_mask"][..., None]
    expected, got = (
        (run(feeds)["last_hidden_state"] * mask).sum(1) / mask.sum(1) for run in (reference, package.run)
    )
    assert cosine_similarity(expected, got).min() >= 0.998


def sentences(model: Path, count: int = 128, tokens: int = 64) -> dict[str, np.ndarray]:
    """Lines of the built-in text as the encoder takes them, right-padded."""
    tokenizer = Tokenizer(model)
    lines = [line.strip() for line in built_in_text().content.splitlines() if len(line.split()) > 4]
    ids = np.zeros((count, tokens), np.int64)
    mask = np.zeros_like(ids)
    for at, line in enumerate(lines[:count]):
        row = tokenizer.framed(line)[:tokens]
        ids[at, : len(row)], mask[at, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
