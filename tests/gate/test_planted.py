"""Regressions as builds and merges bring them about: each is refused, by the gate that is about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import graphopt
from graphopt.cli._main import run
from tests.gate import _planted

Plant = Callable[[Path, Path], Path]
TOKENS = "2048"
"""Eight windows: every planted regression is many times what chance makes of them."""


@pytest.fixture
def gated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, dict[str, str]]]:
    """`gated(package, baseline, gates, *options)` is the exit code, and each gate's verdict by its metric."""
    monkeypatch.chdir(tmp_path)

    def gated(
        package: Path, baseline: Path, gates: dict[str, str], *options: str
    ) -> tuple[int, dict[str, str]]:
        given = [part for metric, bound in gates.items() for part in ("--gate", f"{metric} {bound}")]
        code = run(
            [
                "gate",
                str(package),
                "--baseline",
                str(baseline),
                "--json",
                "result.json",
                "-q",
                *given,
                *options,
            ]
        )
        outcomes = json.loads(Path("result.json").read_text())["outcomes"]
        worst = {"pass": 0, "inconclusive": 1, "fail": 2}
        found: dict[str, str] = {}
        for one in outcomes:
            found[one["metric"]] = max(
                found.get(one["metric"], "pass"), one["verdict"], key=worst.__getitem__
            )
        return code, found

    return gated


LANGUAGE = {
    "kl_mean": "<= 0.001",
    "flips_lost": "<= 0.01",
    "padded_kl_mean": "<= 0.001",
    "greedy_agreement": ">= 0.9",
    "length_ratio": ">= 0.9",
    "interface_changes": "== 0",
    "census_changes": "== 0",
    "package_bytes": "<= 1.01x",
}


@pytest.mark.parametrize(
    ("plant", "named"),
    [
        (_planted.another_scale, {"kl_mean"}),
        (_planted.mask_dropped, {"padded_kl_mean"}),
        (_planted.another_accuracy_level, {"census_changes"}),
        (_planted.cut_short, {"length_ratio"}),
        (_planted.renamed_output, {"interface_changes"}),
        (_planted.copied, set()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_of_tiny_coder(
    plant: Plant,
    named: set[str],
    tiny_coder_at: Callable[[str], Path],
    gated: Callable[..., tuple[int, dict[str, str]]],
    tmp_path: Path,
) -> None:
    package = tiny_coder_at("int4")
    code, found = gated(plant(package, tmp_path / "planted"), package, LANGUAGE, "--tokens", TOKENS)

    assert named <= {metric for metric, verdict in found.items() if verdict == "fail"}
    assert code == (1 if named else 0), found


ENCODER = {
    "cosine_mean": ">= 0.9999",
    "cosine_min": ">= 0.999",
    "padded_cosine_min": ">= 0.999",
    "interface_changes": "== 0",
    "census_changes": "== 0",
}


@pytest.fixture(scope="session")
def sentences(cached: Callable[[str, Callable[[Path], None]], Path], minilm: Path) -> Path:
    """all-MiniLM-L6-v2's lossless package."""

    def build(folder: Path) -> None:
        graphopt.optimize(minilm, folder / "package", recipe="lossless", verify="off", validate=False)

    return cached("minilm-lossless-unchecked", build) / "package"


@pytest.mark.parametrize(
    ("plant", "named"),
    [
        (_planted.another_scale, {"cosine_mean"}),
        (_planted.mask_dropped, {"padded_cosine_min"}),
        (_planted.renamed_output, {"interface_changes"}),
        (_planted.copied, set()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_of_minilm(
    plant: Plant,
    named: set[str],
    sentences: Path,
    gated: Callable[..., tuple[int, dict[str, str]]],
    tmp_path: Path,
) -> None:
    code, found = gated(plant(sentences, tmp_path / "planted"), sentences, ENCODER, "--tokens", "1024")

    assert named <= {metric for metric, verdict in found.items() if verdict == "fail"}
    assert code == (1 if named else 0), found
