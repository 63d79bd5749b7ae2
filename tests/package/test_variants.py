"""A folder for several targets: each has its graph, and weights are there once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from graphopt import BadInput
from graphopt.ir import save_model
from graphopt.package import RunnablePackage
from graphopt.plugins import registry
from graphopt.targets import Diagnosis
from tests.ir._weighted import weighted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, begun: Path) -> Path:
    place = tmp_path_factory.mktemp("variants")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHOPT_CACHE", str(shutil.copytree(begun, place / "cache")))
        patch.delenv("GRAPHOPT_CACHE_SIZE", raising=False)
        return graphopt.optimize("tiny-coder", place / "out", target="cpu,portable", recipe="lossless").path


def test_weights_that_both_have_are_stored_once(folder: Path) -> None:
    whole = (folder / "model.onnx.data").stat().st_size
    more = folder / "model.portable.onnx.data"
    assert not more.exists() or more.stat().st_size < 0.2 * whole
    onnx.checker.check_model(str(folder / "model.portable.onnx"))


def test_each_target_has_its_own_graph_and_they_agree(folder: Path) -> None:
    cpu, portable = RunnablePackage.load(folder, "cpu"), RunnablePackage.load(folder, "portable")
    assert (cpu.manifest.target.name, portable.manifest.target.name) == ("cpu", "portable")
    domains = {
        package.manifest.target.name: {
            node.domain
            for node in onnx.load(
                package.path / package.manifest.graphs["model"].file, load_external_data=False
            ).graph.node
        }
        for package in (cpu, portable)
    }
    assert "com.microsoft" in domains["cpu"]
    assert domains["portable"] == {""}
    prompt = "def fibonacci(n):"
    assert cpu.generate(prompt, max_new_tokens=16) == portable.generate(prompt, max_new_tokens=16)


def test_the_first_that_can_run_here_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RunnablePackage.load(folder).manifest.target.name == "cpu"
    cpu = registry.targets()["cpu"]
    monkeypatch.setattr(cpu, "diagnose", lambda self: Diagnosis("no device", "it was taken away"))
    assert RunnablePackage.load(folder).manifest.target.name == "portable"


def test_a_target_that_it_is_not_for(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"no graphs for target 'cuda'[\s\S]*It has cpu, portable"):
        RunnablePackage.load(folder, "cuda")


def test_each_is_a_package_of_its_own(folder: Path) -> None:
    for name in ("graphopt.json", "graphopt.lock", "report.json", "report.html", "tokenizer.json"):
        assert (folder / "targets" / "portable" / name).is_file()
    assert json.loads((folder / "graphopt.json").read_text())["variants"] == ["portable"]
    assert RunnablePackage.load(folder / "targets" / "portable").manifest.target.name == "portable"


def test_graphs_that_want_a_folder_of_their_own_have_their_weights_there(tmp_path: Path) -> None:
    save_model(weighted(np.eye(64, dtype=np.float32)), tmp_path / "m.onnx")
    options = {"recipe": "lossless", "dims": ["B=2"], "verify": "structure"}
    out = graphopt.optimize(tmp_path / "m.onnx", tmp_path / "out", target="cpu,web", **options).path

    assert json.loads((out / "graphopt.json").read_text())["variants"] == ["web"]
    assert {p.name for p in (out / "targets" / "web" / "onnx").iterdir()} == {"model.onnx"}
    assert [p.name for p in out.glob("*.onnx")] == ["model.onnx"]
    x = np.ones((2, 64), np.float32)
    np.testing.assert_array_equal(RunnablePackage.load(out, "web").run({"x": x})["y"], x)


@pytest.mark.parametrize(("asked", "said"), [("cpu,portabel", "portabel"), ("cpu,cpu", "asked for twice")])
def test_what_is_wrong_with_a_later_target_is_said_at_once(asked: str, said: str, tmp_path: Path) -> None:
    """Before the source, which there is none of, is looked for."""
    with pytest.raises(BadInput, match=said):
        graphopt.optimize(tmp_path / "nothing", tmp_path / "out", target=asked)
