"""What onnxruntime-genai's builder writes: found, mended, and the same text comes out of genai then."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime_genai as og
import pytest

from graphopt.build import lint, mend
from graphopt.recipes import OptimizeOptions
from tests._cache import ROOT

PROMPT = [10, 20, 30, 40, 50]
HEAD_SIZE = 32


@pytest.fixture(scope="session")
def built(cached: Callable[[str, Callable[[Path], None]], Path]) -> Callable[[str], Path]:
    """`built(options)` is the builder's folder for the embedded model, in 4 bits for the CPU."""

    def built(options: str) -> Path:
        def build(folder: Path) -> None:
            command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", "int4", "-e", "cpu"]
            command += ["-i", str(ROOT / "models/tiny_coder"), "-o", str(folder / "genai")]
            command += [
                "-c",
                str(folder / "cache"),
                *(["--extra_options", *options.split()] if options else []),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr

        return cached(f"genai-{options or 'default'}".replace("=", "-").replace(" ", "-"), build) / "genai"

    return built


def feeds(model: Path) -> dict[str, np.ndarray]:
    """Two new tokens behind three in the cache, all of them real."""
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for value in onnx.load(model, load_external_data=False).graph.input:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        match value.name:
            case "input_ids":
                found[value.name] = np.asarray([[11, 12]], np.int64)
            case "attention_mask":
                found[value.name] = np.ones((1, 5), np.int64)
            case _:
                found[value.name] = rng.standard_normal((1, dims[1], 3, HEAD_SIZE)).astype(np.float32)
    return found


def written(folder: Path, tokens: int = 12) -> list[int]:
    model = og.Model(str(folder))
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(
        do_sample=False, max_length=len(PROMPT) + tokens, min_length=len(PROMPT) + tokens
    )
    generator = og.Generator(model, parameters)
    generator.append_tokens(np.asarray([PROMPT], np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)]


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "found"), [("", ["GO303", "GO601"]), ("accuracy_level=1", ["GO101", "GO303", "GO601"])]
)
def test_its_cliffs_are_found_and_mended(
    built: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    found: list[str],
) -> None:
    monkeypatch.setattr("graphopt_models._genai_rules.default_threads", lambda: 2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    folder = built(options)
    report = lint(folder)
    np.savez(tmp_path / "inputs.npz", **feeds(folder / "model.onnx"))
    asked = OptimizeOptions(inputs=tmp_path / "inputs.npz")

    package = mend(folder, tmp_path / "out", report, options=asked)

    assert [rule.code for rule, _ in report.by_rule()] == found
    assert package is not None
    assert package.manifest.closing_check == "passed"
    assert [rule.code for rule, _ in lint(package.path).by_rule()] == ["GO601"]
    assert (package.path / "tokenizer.json").is_file()
    if not options:  # at level 4, as it was: nothing is rounded that was not
        assert written(package.path) == written(folder)


@pytest.mark.long
def test_what_it_cuts_itself_is_not_found(
    built: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphopt_models._genai_rules.default_threads", lambda: 2)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert not lint(built("prune_lm_head=1")).found
