"""No process that graphopt starts leaves traces of the runtimes' telemetry, unless it is asked to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import parser

from graphopt.io._telemetry import keep_quiet
from tests._cache import ROOT

NET = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[2, 4] x) => (float[2, 4] y) { z = Identity(x) y = Relu(z) }
"""
GENERATE = "from tests.runtime._served import served; from pathlib import Path; served(Path({!r}), 'a', 2)"
TOLD = "import graphopt, os; print(os.environ.get('ORT_DISABLE_TELEMETRY'))"
VARIABLES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "GRAPHOPT_TELEMETRY")


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """Runs Python in an environment that says nothing of telemetry, its home and caches empty folders."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    kept["PYTHONPATH"] = str(ROOT)
    homes = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for folder in homes.values():
        Path(folder).mkdir()

    def python(*arguments: str, **environment: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments],
            env=kept | homes | environment,
            cwd=tmp_path,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    return python


def test_homes_stay_empty(
    python: Callable[..., str], tmp_path: Path, tiny_coder_at: Callable[[str], Path]
) -> None:
    onnx.save(parser.parse_model(NET), tmp_path / "net.onnx")
    np.savez(tmp_path / "in.npz", x=np.ones((2, 4), np.float32))
    for line in (
        "optimize net.onnx -o net --quiet",
        "run net --inputs in.npz --outputs out.npz",
        "bench net --inputs in.npz --rounds 1 --new-tokens 1 --quiet",
    ):
        python("-m", "graphopt", *line.split())
    python("-c", GENERATE.format(str(tiny_coder_at("int4"))))

    assert (tmp_path / "out.npz").is_file()
    left = [*(tmp_path / "home").rglob("*"), *(tmp_path / "cache").rglob("*")]
    assert [str(path) for path in left] == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "1"),
        ({"GRAPHOPT_TELEMETRY": "onnxruntime"}, "None"),
        ({"GRAPHOPT_TELEMETRY": "yes"}, "1"),
        ({"ORT_DISABLE_TELEMETRY": "0"}, "0"),
    ],
)
def test_what_the_runtime_is_told(python: Callable[..., str], given: dict[str, str], told: str) -> None:
    assert python("-c", TOLD, **given).strip() == told


def test_runtimes_that_were_imported_before_are_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    for name in ("onnxruntime", "onnxruntime_genai"):
        module = SimpleNamespace(disable_telemetry_events=lambda name=name: told.append(name))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("GRAPHOPT_TELEMETRY", "onnxruntime")
    keep_quiet()
    assert told == []

    monkeypatch.delenv("GRAPHOPT_TELEMETRY")
    keep_quiet()
    assert told == ["onnxruntime", "onnxruntime_genai"]
