"""What cannot be gated is said so, with what to do about it: exit code 2."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt.cli._main import run

Gated = Callable[..., tuple[int, str]]


@pytest.fixture
def package(tiny_coder_at: Callable[[str], Path]) -> Path:
    return tiny_coder_at("int4")


@pytest.fixture
def gated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Gated:
    """`gated(package, baseline, *options)` is the exit code, and what is said on stderr."""
    monkeypatch.chdir(tmp_path)

    def gated(package: Path, baseline: str | Path, *options: str) -> tuple[int, str]:
        code = run(["gate", str(package), "--baseline", str(baseline), "-q", "--tokens", "600", *options])
        return code, capsys.readouterr().err

    return gated


def edited(folder: Path, out: Path, file: str, **changes: object) -> Path:
    """`folder` at `out`, with other values in a JSON file of it."""
    shutil.copytree(folder, out)
    said = json.loads((out / file).read_text())
    (out / file).write_text(json.dumps(said | changes))
    return out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gate", "kl_maen <= 0.02"], "Did you mean 'kl_mean'?"),
        (["--gate", "ttft <= 3msec"], "Did you mean 'ms'?"),
        (["--gate", "kl_mean => 1"], "There are <=, >="),
        (["--gate", "nodes == 1", "--gate", "nodes == 2"], "no package can pass"),
        (["--gate", "kl_mean <= 1.05x"], "--reference"),
        (["--gate", "cosine_min >= 0.9"], "is not measured of"),
        (["--gate", "span_agreement >= 0.9"], "has no head"),
        (["--max-time", "2 weeks"], "is not a duration"),
        (["--inconclusive", "maybe"], "maybe"),
    ],
)
def test_of_gates(package: Path, gated: Gated, options: list[str], message: str) -> None:
    code, said = gated(package, package, *options)

    assert code == 2, said
    assert message in said


def test_a_baseline_of_another_model(package: Path, gated: Gated, tiny_model: Callable[..., Path]) -> None:
    code, said = gated(package, tiny_model("llama"))

    assert code == 2, said
    assert "another" in said


def test_a_baseline_with_another_tokenizer(package: Path, gated: Gated, tmp_path: Path) -> None:
    other = edited(package, tmp_path / "other", "tokenizer.json", added_tokens=[])
    code, said = gated(package, other)

    assert code == 2
    assert "another tokenizer" in said


def test_a_baseline_with_another_interface(package: Path, gated: Gated, tmp_path: Path) -> None:
    said = json.loads((package / "graphopt.json").read_text())["source_interface"]
    said["inputs"] = said["inputs"][1:]
    other = edited(package, tmp_path / "other", "graphopt.json", source_interface=said)
    code, message = gated(package, other, "--gate", "package_bytes <= 2x")

    assert code == 2
    assert "another interface" in message
    assert "input_ids" in message


def test_a_baseline_that_is_nothing(package: Path, gated: Gated) -> None:
    code, said = gated(package, "tiny-codr")
    assert code == 2
    assert "tiny-coder" in said
    code, said = gated(package, "missing.json")
    assert code == 2
    assert "No such file" in said


def test_a_result_is_no_baseline_of_speed(package: Path, gated: Gated) -> None:
    assert gated(package, package, "--gate", "kl_mean <= 0.1", "--json", "result.json")[0] == 0
    code, said = gated(package, "result.json", "--gate", "tpot <= 1.05x")

    assert code == 2
    assert "in turns" in said


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "ends in the middle"),
        (lambda text: text.replace('"version": 1', '"version": 99', 1), "version 99"),
        (lambda text: "[]", "result"),
        (lambda text: "", "result.json"),
    ],
    ids=["cut in the middle", "of a newer schema", "no object", "empty"],
)
def test_a_result_file_that_is_none(
    package: Path, gated: Gated, damage: Callable[[str], str], message: str
) -> None:
    assert gated(package, package, "--gate", "kl_mean <= 0.1", "--json", "result.json")[0] == 0
    path = Path("result.json")
    path.write_text(damage(path.read_text()))
    code, said = gated(package, "result.json", "--gate", "kl_mean <= 0.1")

    assert code == 2, said
    assert message in said


def test_text_that_the_package_was_calibrated_on(package: Path, gated: Gated, tiny_coder: Path) -> None:
    code, said = gated(
        package, package, "--gate", "kl_mean <= 1", "--data", str(tiny_coder / "calibration.txt")
    )

    assert code == 2, said
    assert "calibration" in said


def test_a_package_that_changes_while_it_is_measured(
    package: Path, gated: Gated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphopt.gate import _measuring

    mine = tmp_path / "mine"
    shutil.copytree(package, mine)

    class Meddling(_measuring.AccuracyRun):
        def extend(self, tokens: int) -> None:
            super().extend(tokens)
            (mine / "generation_config.json").write_text("{}")

    monkeypatch.setattr(_measuring, "AccuracyRun", Meddling)
    code, said = gated(mine, package, "--gate", "kl_mean <= 1")

    assert code == 2, said
    assert "generation_config.json" in said


def test_relative_accuracy_beside_a_stored_result_of_other_text(
    package: Path, gated: Gated, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("def f(x):\n    return x + 1\n" * 40)
    (tmp_path / "b.txt").write_text("class A:\n    y = 2\n\n    def g(self): ...\n" * 40)
    asked = "--gate", "kl_mean <= 0.5"
    assert gated(package, package, *asked, "--data", "a.txt", "--json", "result.json")[0] == 0
    code, said = gated(package, "result.json", "--gate", "kl_mean <= 1.5x", "--data", "b.txt")

    assert code == 2, said
    assert "other text" in said
