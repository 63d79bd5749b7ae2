"""Distributions of onnxruntime that lie over each other are found, and both are named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from graphopt import EnvironmentProblem
from graphopt.cli._main import run
from graphopt.runtime import _installation, check_installation, open_session


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    _installation._providers.cache_clear()
    yield
    _installation._providers.cache_clear()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def add(site: Path, name: str, module: str) -> None:
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"{module}/__init__.py,,\n{info.name}/METADATA,,\n")


def test_one_of_each_is_right() -> None:
    check_installation()
    check_installation("onnxruntime_genai")


def test_another_package_with_a_similar_name_is_no_matter(installed: Path) -> None:
    add(installed, "onnxruntime-ep-webgpu", "onnxruntime_ep_webgpu")

    check_installation()


def test_two_over_each_other(installed: Path, tmp_path: Path) -> None:
    add(installed, "onnxruntime-openvino", "onnxruntime")

    with pytest.raises(EnvironmentProblem, match="onnxruntime, onnxruntime-openvino") as problem:
        open_session(tmp_path / "model.onnx")

    assert problem.value.hint == (
        "Keep one: pip uninstall -y onnxruntime onnxruntime-openvino && pip install onnxruntime "
        "(or onnxruntime-openvino)"
    )


def test_two_builds_of_genai(installed: Path) -> None:
    add(installed, "onnxruntime-genai-cuda", "onnxruntime_genai")

    check_installation()
    with pytest.raises(EnvironmentProblem, match="onnxruntime-genai, onnxruntime-genai-cuda"):
        check_installation("onnxruntime_genai")


def test_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_installation, "distributions", list)

    with pytest.raises(EnvironmentProblem, match="not installed") as problem:
        check_installation()

    assert problem.value.hint == "pip install onnxruntime"


def test_the_doctor_tells(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(installed, "onnxruntime-gpu", "onnxruntime")

    assert run(["targets", "doctor"]) == 4
    assert "onnxruntime-gpu" in capsys.readouterr().out
