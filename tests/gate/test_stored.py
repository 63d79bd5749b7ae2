"""A stored result is a baseline of accuracy and of facts: what it holds is enough to say what changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt.cli._main import run
from tests.gate import _planted

FACTS = ("package_bytes <= 1x", "nodes <= 1x", "interface_changes == 0", "census_changes == 0")


@pytest.fixture
def stored(
    tiny_coder_at: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """A package, and what its gate beside a package of another recipe came to."""
    monkeypatch.chdir(tmp_path)
    package, other = tiny_coder_at("int4"), tiny_coder_at("int8")
    measured = ["kl_mean <= 1", "package_bytes <= 1GB", "nodes <= 500"]
    assert (
        run(["gate", str(package), "--baseline", str(other), *_options(measured), "--json", "then.json"]) == 0
    )
    return package, other


def _options(gates: list[str] | tuple[str, ...]) -> list[str]:
    return ["-q", "--tokens", "600", *(part for gate in gates for part in ("--gate", gate))]


def _gated(package: Path, *gates: str) -> tuple[int, dict[str, dict[str, object]]]:
    code = run(["gate", str(package), "--baseline", "then.json", *_options(gates), "--json", "now.json"])
    return code, {one["metric"]: one for one in json.loads(Path("now.json").read_text())["outcomes"]}


def test_the_same_package_is_as_it_was(stored: tuple[Path, Path]) -> None:
    code, found = _gated(stored[0], *FACTS, "kl_mean <= 1.000001x")

    assert code == 0, found
    assert found["kl_mean"]["value"] == 1
    assert found["package_bytes"]["baseline"] == found["package_bytes"]["own"]


def test_what_changed_is_said(stored: tuple[Path, Path], tmp_path: Path) -> None:
    code, found = _gated(_planted.another_accuracy_level(stored[0], tmp_path / "level"), *FACTS)
    assert code == 1
    assert "accuracy_level 4" in str(found["census_changes"]["reason"])
    assert found["interface_changes"]["verdict"] == "pass"

    code, found = _gated(_planted.renamed_output(stored[0], tmp_path / "renamed"), *FACTS)
    assert code == 1
    assert "output logits is gone" in str(found["interface_changes"]["reason"])


def test_another_package_is_worse_than_the_stored_one_or_not(stored: tuple[Path, Path]) -> None:
    """The reference is that of the stored result: the package of int8, which is no distance from itself."""
    code, found = _gated(stored[1], "kl_mean <= 1x", "package_bytes <= 1x")

    assert code == 1
    assert found["kl_mean"]["value"] == 0
    assert found["package_bytes"]["verdict"] == "fail"
