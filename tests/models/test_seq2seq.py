"""Encoder-decoder models become two graphs that together are what PyTorch is, and answer as it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import graphopt
from graphopt import Package
from graphopt.errors import BadInput
from graphopt.export import export, load_torch_model, resolve_source
from graphopt.runtime import AnswerRules, EncoderDecoder, answer
from tests._models import SEQ2SEQ

TOLERANCE = 1e-4


@pytest.fixture
def made(
    cached: Callable[..., Path], exported: Callable[[Path], Path], tiny_model: Callable[..., Path]
) -> Callable[[str], Package]:
    """The lossless package of a kind, made once."""

    def package(kind: str) -> Package:
        def build(folder: Path) -> None:
            graphopt.optimize(exported(tiny_model(kind)), folder / "package", recipe="lossless")

        return Package.load(cached(f"seq2seq-{kind}", build) / "package")

    return package


def calls(kind: str) -> dict[str, dict[str, np.ndarray]]:
    """Sources, the second row's padded where there are two, with the first tokens of their answers."""
    rng = np.random.default_rng(1)
    if kind == "whisper":
        sources = [{"input_features": rng.standard_normal((rows, 8, 40), np.float32)} for rows in (1, 2)]
    else:
        sources = []
        for rows in (1, 2):
            mask = np.ones((rows, 9), np.int64)
            mask[1:, 5:] = 0
            sources.append({"input_ids": rng.integers(3, 4096, (rows, 9)) * mask, "attention_mask": mask})
    return {
        f"{rows} rows": source | {"decoder_input_ids": rng.integers(3, 4096, (rows, 7))}
        for rows, source in zip((1, 2), sources, strict=True)
    }


def in_pytorch(folder: Path, kind: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
    model = load_torch_model(folder, SEQ2SEQ[kind].auto)
    with torch.no_grad():
        result: np.ndarray = model(**{n: torch.from_numpy(a) for n, a in feeds.items()}).logits.numpy()
    return result


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_a_package_is_what_pytorch_is(
    kind: str, made: Callable[[str], Package], tiny_model: Callable[..., Path]
) -> None:
    package = made(kind)
    assert sorted(package.manifest.graphs) == ["decoder", "encoder"]
    for feeds in calls(kind).values():
        difference = np.abs(package.run(feeds)["logits"] - in_pytorch(tiny_model(kind), kind, feeds)).max()
        assert difference < TOLERANCE


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_the_closing_check_covers_both_graphs_and_the_whole(
    kind: str, made: Callable[[str], Package]
) -> None:
    closing = made(kind).report().closing
    assert closing.verdict == "passed"
    cases = {comparison.case for comparison in closing.metrics}
    assert cases >= {"encoder batch", "decoder start", "decoder chunk", "decoder decode", "one", "batch"}
    if kind != "whisper":
        padded = {"encoder right-padded", "decoder decode-right-padded", "right-padded", "left-padded"}
        assert cases >= padded


def test_the_comparison_fails_when_the_sources_padding_is_seen(
    made: Callable[[str], Package], tiny_model: Callable[..., Path]
) -> None:
    feeds = calls("bart")["2 rows"]
    unmasked = feeds | {"attention_mask": np.ones_like(feeds["attention_mask"])}
    difference = np.abs(made("bart").run(unmasked)["logits"] - in_pytorch(tiny_model("bart"), "bart", feeds))
    assert difference.max() > 100 * TOLERANCE


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_answer_is_pytorchs(
    kind: str, made: Callable[[str], Package], tiny_model: Callable[..., Path]
) -> None:
    package, source = made(kind), [5, 300, 41, 1000, 2]
    network = load_torch_model(tiny_model(kind), SEQ2SEQ[kind].auto)
    settings = transformers.GenerationConfig(
        max_new_tokens=12,
        do_sample=False,
        num_beams=1,
        eos_token_id=2,
        pad_token_id=0,
        decoder_start_token_id=1,
    )
    expected = network.generate(torch.tensor([source]), generation_config=settings)[0, 1:].tolist()
    model = EncoderDecoder(package.session("encoder"), package.session("decoder"))
    found = [token for token, _ in answer(model, AnswerRules.of(package.path), source, 12)]
    assert len(expected) > 1
    assert found[: len(expected)] == expected


def test_text_comes_out_as_it_is_made(made: Callable[[str], Package]) -> None:
    package = made("t5")
    pieces = list(package.stream("def add(a, b):", max_new_tokens=8))
    assert len(pieces) > 1
    assert "".join(pieces) == package.generate("def add(a, b):", max_new_tokens=8)


def test_what_a_package_cannot_do_is_said(made: Callable[[str], Package]) -> None:
    with pytest.raises(BadInput, match="does not take text"):
        made("whisper").generate("hello")
    with pytest.raises(BadInput, match="takes no chat"):
        made("t5").stream("hello", chat=True)
    with pytest.raises(BadInput, match="takes no drafts"):
        made("t5").stream("hello", speculate=True)
    with pytest.raises(BadInput, match="an input 'attention_mask', which is not given"):
        made("t5").run(
            {"input_ids": np.ones((1, 3), np.int64), "decoder_input_ids": np.ones((1, 1), np.int64)}
        )


def test_a_model_of_several_graphs_is_not_exported_as_one(tiny_model: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match="is several graphs: encoder, decoder"):
        export(resolve_source(tiny_model("bart")))


def test_a_run_continues_and_a_lock_is_followed(
    exported: Callable[[Path], Path], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    source = exported(tiny_model("bart"))
    first = graphopt.optimize(source, tmp_path / "first", recipe="lossless", verify="off", validate=False)
    again = graphopt.optimize(source, tmp_path / "again", recipe="lossless", verify="off", validate=False)
    report = again.report()
    assert report.export_cached
    assert all(step.cached for step in report.passes)
    assert {step.role for step in report.passes} == {"encoder", "decoder"}
    locked = graphopt.optimize(source, tmp_path / "locked", locked=first.path)
    for other in (again, locked):
        for name in ("encoder.onnx", "decoder.onnx"):
            assert (first.path / name).read_bytes() == (other.path / name).read_bytes()
