"""Whatever runs a package asks its target for the session and the decoder, and opens none beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest

from graphopt import Package, optimize
from graphopt.evaluate import Measurement, _processes, _worker, bench
from graphopt.ir import save_model
from graphopt.plugins import registry
from tests.ir._weighted import weighted

CPU: Any = registry.targets()["cpu"]


class Planted(CPU):
    """The cpu target by another name, which writes down what it is asked for."""

    name = "planted"
    inside: ClassVar[int] = 0
    sessions: ClassVar[list[tuple[str, int | None]]] = []
    decoders: ClassVar[list[int]] = []

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        Planted.sessions.append((path.name, threads))
        Planted.inside += 1
        try:
            return super().session(path, threads=threads)
        finally:
            Planted.inside -= 1

    def decoder(self, folder: Path, session: Any, *, length: int, **options: Any) -> Any:
        Planted.decoders.append(length)
        return super().decoder(folder, session, length=length, **options)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch, tiny_coder_at: Callable[[str], Path]) -> Iterator[list[str]]:
    """What is opened and not by the planted target, which is registered: files by name."""
    tiny_coder_at("lossless")  # made before anything is watched
    found: list[str] = []
    opened = onnxruntime.InferenceSession

    def watched(model: Any, *rest: Any, **options: Any) -> Any:
        if not Planted.inside:
            found.append("a graph in memory" if isinstance(model, bytes) else str(model))
        return opened(model, *rest, **options)

    targets = {**registry.targets(), "planted": Planted}
    monkeypatch.setattr(registry, "targets", lambda: targets)
    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    monkeypatch.setattr(Planted, "sessions", [])
    monkeypatch.setattr(Planted, "decoders", [])
    yield found
    assert found == []


@pytest.fixture
def package(tiny_coder_at: Callable[[str], Path], tmp_path: Path) -> Package:
    """tiny-coder's, made out to be for the planted target."""
    folder = Path(shutil.copytree(tiny_coder_at("lossless"), tmp_path / "package"))
    said = json.loads((folder / "graphopt.json").read_text())
    said["target"]["name"] = "planted"
    (folder / "graphopt.json").write_text(json.dumps(said))
    return Package.load(folder)


@pytest.mark.usefixtures("beside")
def test_text(package: Package) -> None:
    package.generate("import os\n", max_new_tokens=2)
    package.generate("import os\n", max_new_tokens=2, speculate=True, threads=3)

    assert Planted.sessions == [("model.onnx", None), ("model.onnx", 3)]
    assert len(Planted.decoders) == 2


@pytest.mark.usefixtures("beside")
def test_validation(package: Package) -> None:
    package.validate(package.path, tokens=64)

    assert len(Planted.sessions) == 2, "the package's, and its reference's"


@pytest.mark.usefixtures("beside")
def test_speed(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(jobs: Sequence[Sequence[str]], look: object = None, *, seconds: float = 0) -> list[Measurement]:
        asked = [_worker.Ask(Path(job[0]), ("tpot",), prompt=4, new=2, threads=1) for job in jobs]
        return [Measurement.of(_worker.measure(ask)) for ask in asked]

    monkeypatch.setattr(_processes, "measured", here)
    bench(package.path, prompt_tokens=4, new_tokens=2, rounds=1)

    assert Planted.sessions == [("model.onnx", 1)] * 3, "once to warm up, twice in a block"
    assert Planted.decoders == [6] * 3


def test_a_package_is_made_and_run(tmp_path: Path, beside: list[str]) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    source = tmp_path / "source.onnx"
    save_model(weighted(weight), source)
    feeds = {spec.name: np.ones((2, 64), np.float32) for spec in weighted(weight).graph.inputs}
    np.savez(tmp_path / "inputs.npz", **feeds)
    made = optimize(
        source, tmp_path / "out", target="planted", recipe="lossless", inputs=tmp_path / "inputs.npz"
    )

    assert made.manifest.target.name == "planted"
    assert len(Planted.sessions) == 2, "one to try the graph, one to compare it"
    made.run(feeds)
    assert len(Planted.sessions) == 3
    assert set(beside) <= {str(source), "a graph in memory"}, "what it is compared with, folded pieces"
    beside.clear()
