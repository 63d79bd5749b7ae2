"""Accuracy of real packages beside their source, its graph, and each other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt import BadInput, Package
from graphopt.errors import CheckFailed
from graphopt.evaluate import ENCODER_METRICS, LANGUAGE_METRICS, AccuracySamples, measure_accuracy
from graphopt.metrics import Documents, Exact
from tests.evaluate._sides import tokenizer_in

NOT_FROM_1 = {"top1_agreement", "greedy_agreement", "length_ratio", "perplexity_ratio", "cosine_mean"}


@pytest.fixture(scope="module")
def decoder(cached: Callable[..., Path], tiny_model: Callable[..., Path]) -> tuple[Path, Path]:
    """A small Llama and its lossless package."""
    source = tiny_model("llama")

    def build(folder: Path) -> None:
        from graphopt import optimize

        optimize(source, folder / "package", recipe="lossless", validate=False, verify="off")

    return source, cached("llama-lossless-unchecked", build) / "package"


def measured(
    package: Path,
    reference: str | Path,
    metrics: Collection[str],
    baseline: Path | None = None,
    tokens: int = 600,
    **options: Any,
) -> AccuracySamples:
    return measure_accuracy(
        Package.load(package),
        reference,
        None if baseline is None else Package.load(baseline),
        metrics=metrics,
        data=options.pop("data", None),
        tokens=tokens,
        trust_remote_code=False,
        say=lambda text: None,
        **options,
    )


def distances(found: AccuracySamples) -> dict[str, float]:
    """How far each metric is from what it is of two models that are the same."""
    result = {}
    for sample in found.samples:
        best = 1.0 if sample.metric in NOT_FROM_1 or "cosine" in sample.metric else 0.0
        if isinstance(sample.evidence, Documents):
            values = np.concatenate(sample.evidence.values)
            value = float(np.exp(values.mean()) if sample.evidence.statistic == "exp_mean" else values.mean())
        else:
            assert isinstance(sample.evidence, Exact)
            value = sample.evidence.value
        result[sample.title] = abs(value - best)
    return result


def test_a_lossless_decoder_is_its_source(decoder: tuple[Path, Path]) -> None:
    source, package = decoder
    found = measured(package, source, LANGUAGE_METRICS - {"perplexity"})

    assert {sample.metric for sample in found.samples} == LANGUAGE_METRICS - {"perplexity"}
    assert max(distances(found).values()) < 1e-3
    assert len(found.generations) == 24
    assert all(one.answer == one.reference and one.answer_tokens == one.agreed for one in found.generations)
    assert found.data_digest.startswith("sha256:")
    assert any("Python source" in note for note in found.notes)


def test_a_decoder_is_itself_and_the_graph_it_consists_of(decoder: tuple[Path, Path]) -> None:
    package = decoder[1]
    itself = measured(package, package, LANGUAGE_METRICS - {"perplexity"}, package)
    graph = measured(package, package / "model.onnx", ["kl_mean", "padded_kl_mean", "flips_lost"])

    assert set(distances(itself).values()) == {0.0}
    assert max(distances(graph).values()) < 1e-9  # another session, with other fusions


def test_a_graph_without_logits_has_failed(decoder: tuple[Path, Path], tmp_path: Path) -> None:
    import onnx

    source, package = decoder
    renamed = shutil.copytree(package, tmp_path / "renamed")
    model = onnx.load(renamed / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    model.graph.output[0].name = "scores"
    onnx.save(model, renamed / "model.onnx")

    with pytest.raises(CheckFailed, match="gives no logits: its graph's outputs are scores"):
        measured(renamed, source, ["kl_mean"])


def test_a_baseline_with_another_tokenizer(decoder: tuple[Path, Path], tmp_path: Path) -> None:
    other = shutil.copytree(decoder[1], tmp_path / "other")
    tokenizer_in(other)

    with pytest.raises(BadInput, match="other has another tokenizer"):
        measured(decoder[1], decoder[1], ["kl_mean"], other)


def test_a_reference_of_another_vocabulary(decoder: tuple[Path, Path], encoder: tuple[Path, Path]) -> None:
    with pytest.raises(BadInput, match="gives no logits"):
        measured(decoder[1], encoder[1], ["kl_mean"])


def test_text_that_is_too_short(decoder: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("def f(x):\n    return x + 1\n")
    (tmp_path / "shorter.txt").write_text("a")

    notes = measured(decoder[1], decoder[1], ["kl_mean"], data=tmp_path / "short.txt").notes
    assert any("and 600 were asked for" in note for note in notes)
    with pytest.raises(BadInput, match="too short"):
        measured(decoder[1], decoder[1], ["kl_mean"], data=tmp_path / "shorter.txt")


def test_text_the_package_was_calibrated_on(decoder: tuple[Path, Path], tiny_coder: Path) -> None:
    text = tiny_coder / "calibration.txt"

    with pytest.raises(BadInput, match="is not held out"):
        measured(decoder[1], decoder[1], ["kl_mean"], data=text, calibration=text)


def test_a_lossless_encoder_is_its_source(encoder: tuple[Path, Path]) -> None:
    source, package = encoder
    metrics = ENCODER_METRICS - {"top1_mismatches", "mismatched_values"}
    found = measured(package, source, metrics, package)

    assert {sample.metric for sample in found.samples} == metrics
    assert max(distances(found).values()) < 1e-3


@pytest.mark.parametrize("metric", ["kl_mean", "greedy_agreement", "load_time"])
def test_what_is_not_measured_of_an_encoder(encoder: tuple[Path, Path], metric: str) -> None:
    with pytest.raises(BadInput, match="is not measured of"):
        measured(encoder[1], encoder[0], [metric])
