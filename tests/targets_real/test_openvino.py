"""OpenVINO itself: what it loads, in which precision, and packages made for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt import Package, optimize
from graphopt.errors import BadInput
from graphopt.evaluate import LanguageAccuracy, bench, fallback_nodes
from graphopt.ir import parse, save_model
from graphopt.metrics import cosine_similarity
from graphopt.plugins import registry
from graphopt.runtime import RuntimeRefused, Tokenizer
from graphopt.testing import check_target
from tests.targets_real._sources import minilm

TARGET: Any = registry.targets()["openvino"]
PRODUCT = """<ir_version: 10, opset_import: ["" : 23]>
g (float[N, K] x, float[K, M] w) => (float[N, M] y) { y = MatMul(x, w) }
"""


REFUSED = {"GroupQueryAttention", "RotaryEmbedding", "Dropout", "LSTM", "MoE"}
"""Of the graphs that ship with graphopt. What was exported computes RotaryEmbedding and LSTM otherwise
(findings/openvino-exported-lstm.sh); recipes spell out those that ONNX defines by others."""
ROUNDED = {"head-in-8-bits", "dequantized-and-turned"}
"""Graphs that let activations be rounded to 8 bits, or that round anyway, so that floats are bfloat16."""


def test_it_keeps_what_every_target_promises_but_for_what_is_named() -> None:
    found = check_target(TARGET)
    refused = {match[1] for problem in found if (match := re.search(r"compile: .*::(\w+)\)", problem))}
    others = [problem for problem in found if not problem.startswith("compile: ")]
    assert refused == REFUSED
    assert {problem.split("/")[1].partition(":")[0] for problem in others} == ROUNDED


@pytest.mark.parametrize("operator", ["LSTM", "RotaryEmbedding"])
def test_what_is_wrong_once_it_was_exported_is_not_in_the_table(operator: str) -> None:
    assert not TARGET().capabilities().supports("", operator, 23, {})


def test_floats_stay_float32_where_nothing_rounds(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_model(parse(PRODUCT), path)
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((64, 64)).astype(np.float32) for _ in range(2))
    session = TARGET().session(path, threads=1)
    assert session.facts["inference_precision_hint"] == "f32"
    (y,) = session.run(None, {"x": x, "w": w})
    assert np.abs(y - x.astype(np.float64) @ w).max() < 1e-4


def test_a_call_that_fails_on_one_thread_does_not_give_the_call_before(tmp_path: Path) -> None:
    """With OpenVINO 2026.4.1's own synchronous call it does."""
    path = tmp_path / "model.onnx"
    save_model(parse(PRODUCT), path)
    session = TARGET().session(path, threads=1)
    ones = np.ones((2, 3), np.float32)
    assert session.run(None, {"x": ones, "w": np.ones((3, 2), np.float32)})[0].tolist() == [[3, 3], [3, 3]]
    with pytest.raises(RuntimeRefused):
        session.run(None, {"x": ones, "w": np.ones((5, 2), np.float32)})


def test_an_option_that_it_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = TARGET()
    settings = target.plain_settings()
    settings["options"]["NO_SUCH_OPTION"] = "1"
    monkeypatch.setattr(target, "plain_settings", lambda: settings)
    with pytest.raises(BadInput, match=r"(?s)OpenVINO cannot compile .*NO_SUCH_OPTION"):
        target.compile(parse(PRODUCT), tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


def test_minilm_in_int8(packages: Path, tmp_path: Path) -> None:
    made = optimize(minilm(), packages / "minilm", target="openvino", recipe="int8")
    assert made.manifest.closing_check == "passed"
    nodes = made.session().nodes()
    assert sum(one["type"] == "FullyConnected" and one["precision"] in ("u8", "i8") for one in nodes) == 36
    assert fallback_nodes(made) == []
    assert made.session().facts["inference_precision_hint"] in ("bf16", "f32")

    plain = optimize(minilm(), packages / "plain", target="cpu", recipe="lossless", verify="off")
    tokenizer = Tokenizer(minilm())
    lines = [line for line in Path(__file__).read_text().splitlines() if len(line.split()) > 4]
    vectors = []
    for package in (plain, made):
        run, names = package.ready(), [spec.name for spec in package.manifest.graphs["model"].inputs]
        rows = []
        for line in lines:
            ids = np.asarray([tokenizer.framed(line)[:128]], np.int64)
            feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": 0 * ids}
            rows.append(next(iter(run({name: feeds[name] for name in names}).values()))[0].mean(0))
        vectors.append(np.stack(rows))
    least = cosine_similarity(*vectors).min()
    assert least >= 0.997, "0.9982 in bfloat16; how attention is rounded moves it by 0.0007"

    np.savez(tmp_path / "inputs.npz", **{name: feeds[name] for name in names})
    report = bench(made.path, against=plain.path, inputs=tmp_path / "inputs.npz", rounds=1)
    assert report


def test_a_package_runs_in_a_fresh_process(packages: Path) -> None:
    program = (
        "import sys, numpy as np, graphopt\n"
        f"made = graphopt.Package.load({str(packages / 'minilm')!r})\n"
        "ids = np.asarray([[101, 2023, 102]])\n"
        "feeds = {'input_ids': ids, 'attention_mask': np.ones_like(ids), 'token_type_ids': 0 * ids}\n"
        "names = [spec.name for spec in made.manifest.graphs['model'].inputs]\n"
        "print(next(iter(made.run({n: feeds[n] for n in names}).values())).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stdout.strip() == "(1, 3, 384)"
    blob = packages / "minilm" / "model.blob"
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1])
    with pytest.raises(BadInput, match="cut or swapped"):
        Package.load(packages / "minilm").session()
    blob.write_bytes(whole)
    said = json.loads((packages / "minilm" / "model.compiled.json").read_text())
    assert said["runtime"]["openvino"].startswith("2026.4.1")


def test_tiny_coder_writes_what_it_writes_on_the_cpu(
    packages: Path, tiny_coder: Path, tiny_coder_at: Callable[[str], Path]
) -> None:
    """Prefill, chunks, batches padded on either side: the closing check. Then from the blob, elsewhere."""
    made = optimize(tiny_coder, packages / "tiny", target="openvino", recipe="lossless", verify="off")
    assert made.manifest.closing_check == "passed"
    prompts = ["def fibonacci(n):", "import os\n", "class A:\n    def f("]
    program = (
        "import json, sys, graphopt\n"
        f"made = graphopt.Package.load({str(made.path)!r})\n"
        "print(json.dumps(made.generate(json.loads(sys.argv[1]), max_new_tokens=24)))\n"
    )
    words = [sys.executable, "-c", program, json.dumps(prompts)]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ, check=True)
    expected = Package.load(tiny_coder_at("lossless")).generate(prompts, max_new_tokens=24)
    assert json.loads(done.stdout) == expected
    found = made.validate(tiny_coder_at("lossless"), tokens=256).result
    assert isinstance(found, LanguageAccuracy)
    assert found.kl_mean.value < 1e-6
