"""A folder for several targets: each has its graph, and weights are there once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

import graphopt
from graphopt import BadInput
from graphopt.package import RunnablePackage, add_variant
from graphopt.plugins import registry
from graphopt.targets import Diagnosis


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("variants") / "out"
    return graphopt.optimize("tiny-coder", out, target="cpu,portable", recipe="lossless").path


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


def test_documents_of_each_are_there(folder: Path) -> None:
    for name in ("graphopt.portable.json", "graphopt.portable.lock", "report.portable.json"):
        assert (folder / name).is_file()
    assert json.loads((folder / "graphopt.json").read_text())["variants"] == ["portable"]


def test_a_file_that_differs_is_kept_apart(folder: Path, tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    for path, name in ((first, "cpu"), (other, "portable")):
        made = RunnablePackage.load(folder, name)
        shutil.copytree(folder, path)
        made.manifest.model_copy(update={"variants": ()}).write(path)
    (other / "tokenizer.json").write_text("{}")
    add_variant(first, other)
    assert (first / "targets" / "portable" / "tokenizer.json").read_text() == "{}"
    assert (first / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
