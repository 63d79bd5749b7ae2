"""compare: a table, a page and JSON of several packages, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import parser

from graphopt import optimize
from graphopt.cli._main import run
from tests.report._samples import gate_report

NET = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[batch, 4] x) => (float[batch, 4] y)
{
  same = Identity(x)
  y = Relu(same)
}
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three packages in the current folder."""
    monkeypatch.chdir(tmp_path)
    onnx.save(parser.parse_model(NET), "net.onnx")
    for name in "abc":
        optimize("net.onnx", name, recipe="lossless", dims=["batch=2"])
    return ["a", "b", "c"]


@pytest.fixture
def result(packages: list[str]) -> Callable[..., str]:
    def write(package: str, **changes: object) -> str:
        made = gate_report()
        made.provenance.package = package
        Path("result.json").write_text(json.dumps(json.loads(made.model_dump_json()) | changes))
        return "result.json"

    return write


def test_it_prints_a_table_and_writes_a_page(packages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", *packages]) == 0
    said = capsys.readouterr().out
    assert "lossless" in said
    assert "compare.html" in said
    assert "3 packages side by side" in Path("compare.html").read_text()


def test_the_page_and_json_go_where_they_are_asked_to(
    packages: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *packages, "-o", "x.html", "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)

    assert data["names"] == packages
    assert {row["key"] for row in data["rows"]} >= {"weight_bytes", "package_bytes", "nodes", "verdict"}
    assert Path("x.html").exists()
    assert not Path("compare.html").exists()


def test_what_a_gate_measured_is_shown(
    packages: list[str], result: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *packages, "--result", result("b")]) == 0
    assert "12.1 ms, fail" in capsys.readouterr().out


def test_a_result_of_another_package_is_refused(
    packages: list[str], result: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *packages, "--result", result("elsewhere")]) == 2
    assert "which is none of these packages" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "is of version 2, and this graphopt reads results up to version 1"),
        ({"verdict": "maybe"}, ": verdict: "),
    ],
)
def test_a_result_that_cannot_be_read_is_refused(
    packages: list[str],
    result: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    said: str,
) -> None:
    assert run(["compare", *packages, "--result", result("a", **changes)]) == 2
    assert said in capsys.readouterr().err


def test_a_result_cut_in_the_middle_is_refused(
    packages: list[str], result: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(result("a"))
    file.write_text(file.read_text()[:300])

    assert run(["compare", *packages, "--result", str(file)]) == 2
    assert "ends in the middle, after 300 characters" in capsys.readouterr().err


def test_bad_packages_are_refused(packages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("b/report.json").unlink()

    for arguments, said in (
        (["a"], "two packages or more"),
        (["a", "nowhere"], "package nowhere does not exist"),
        (["a", "net.onnx"], "is a file, not a package folder"),
        (["a", "b"], "report.json is missing or damaged"),
        (["a", "c", "-o", "no/such/folder.html"], "the folder of no/such/folder.html does not exist"),
    ):
        assert run(["compare", *arguments]) == 2
        assert said in capsys.readouterr().err
        assert not Path("compare.html").exists()
