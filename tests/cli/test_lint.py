"""graphopt lint as it is used: what it prints and writes, its exit codes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import onnx.parser
import pytest

from graphopt.cli._main import run
from tests._cache import ROOT
from tests.lint._planted import PLANTED

SCHEMA = json.loads((ROOT / "tests/gate/schemas/sarif-2.1.0.json").read_text())
CLEAN = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[rows,8] x) => (float[rows,8] y) { y = Relu(x) }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a clean model and one with a cliff that is mended exactly."""
    monkeypatch.chdir(tmp_path)
    onnx.save(onnx.parser.parse_model(CLEAN), "clean.onnx")
    PLANTED["zero points in floats"](tmp_path).save(tmp_path / "zeros")
    return tmp_path


@pytest.fixture
def said(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that has to end with `code`; gives what it said on stdout, or else on stderr."""

    def said(*arguments: str, code: int = 0) -> str:
        assert run(["lint", *arguments]) == code
        spoken = capsys.readouterr()
        assert "Traceback" not in spoken.err
        return spoken.out if code in (0, 1) else spoken.err

    return said


def test_nothing_found(said: Callable[..., str]) -> None:
    assert "clean.onnx: nothing found (" in said("clean.onnx")


def test_what_is_found_is_printed(said: Callable[..., str]) -> None:
    printed = said("zeros/model.onnx", code=1)

    assert "GO102 warning  A weight in blocks has zero points in floats." in printed
    assert "2 places: model.onnx: MatMulNBits_0, model.onnx: MatMulNBits_2" in printed
    assert "--fix: round-zeros" in printed
    assert "1 rule found 2 places" in printed


def test_notes_alone_count_as_none(said: Callable[..., str], here: Path) -> None:
    PLANTED["BatchNormalization left in"](here).save(here / "norms")
    assert "GO205 note" in said("norms/model.onnx")


def test_json_and_sarif(said: Callable[..., str], here: Path) -> None:
    said("zeros/model.onnx", "--json", "found.json", "--sarif", "found.sarif", code=1)
    found: dict[str, Any] = json.loads((here / "found.json").read_text())
    log = json.loads((here / "found.sarif").read_text())
    (log_run,) = log["runs"]

    jsonschema.validate(log, SCHEMA)
    assert found["target"] == "cpu"
    assert [(one["code"], one["node"]) for one in found["findings"]] == [
        ("GO102", "MatMulNBits_0"),
        ("GO102", "MatMulNBits_2"),
    ]
    assert log_run["automationDetails"]["id"] == "graphopt/lint/zeros/model.onnx/cpu/"
    assert [rule["id"] for rule in log_run["tool"]["driver"]["rules"]] == ["lint/GO102"]
    first = log_run["results"][0]
    assert first["level"] == "warning"
    (location,) = first["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "zeros/model.onnx"
    assert location["logicalLocations"] == [{"fullyQualifiedName": "MatMulNBits_0"}]
    assert (
        len({result["partialFingerprints"]["primaryLocationLineHash"] for result in log_run["results"]}) == 2
    )


def test_mended(said: Callable[..., str], here: Path) -> None:
    """What is left then is that level 4 is not asked for, which counted for nothing before."""
    arguments = ("zeros/model.onnx", "--fix", "-o", "out", "--inputs", "zeros/inputs.npz")
    printed = said(*arguments, "--ignore", "GO101", "--json", "mended.json")
    mended = json.loads((here / "mended.json").read_text())

    assert "GO102 float-zero-points" in printed
    assert "out: compared with model.onnx: passed" in printed
    assert (mended["mended"], mended["left"]) == ("out", [])
    assert "nothing found" in said("out", "--ignore", "GO101")


def test_without_inputs_nobody_knows(said: Callable[..., str], here: Path) -> None:
    said("zeros/model.onnx", "--fix", "-o", "out", "--ignore", "GO101", code=3)
    assert (here / "out" / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.onnx",), "nowhere.onnx does not exist"),
        (("clean.onnx", "--target", "cpo"), "unknown target 'cpo'"),
        (("clean.onnx", "--only", "GO10"), "unknown rule 'GO10'"),
        (("clean.onnx", "--ignore", "GO999"), "unknown rule 'GO999'"),
        (("broken.onnx",), "broken.onnx is not an ONNX model"),
        (("empty",), "empty holds no .onnx file"),
        (("clean.onnx", "-o", "out"), "are for --fix"),
        (("clean.onnx", "--sarif", "no/where.sarif"), "does not exist"),
        (("zeros/model.onnx", "--fix", "-o", "zeros", "--inputs", "zeros/inputs.npz"), "zeros"),
    ],
)
def test_bad_input(said: Callable[..., str], here: Path, arguments: tuple[str, ...], message: str) -> None:
    (here / "broken.onnx").write_bytes(b"\x08\x0a\x12\xff")
    (here / "empty").mkdir()
    before = sorted(here.rglob("*"))
    assert message in said(*arguments, code=2)
    assert sorted(here.rglob("*")) == before


def test_settings_that_are_no_settings(said: Callable[..., str], here: Path) -> None:
    (here / "genai_config.json").write_text("[1, 2]")
    assert "does not hold a JSON object" in said("clean.onnx", code=2)


def test_a_folder_of_several_graphs_is_looked_at_whole(said: Callable[..., str], here: Path) -> None:
    folder = here / "two"
    folder.mkdir()
    for name in ("encoder", "decoder"):
        onnx.save(PLANTED["zero points in floats"](here).model, folder / f"{name}.onnx")

    assert "encoder.onnx: MatMulNBits_0" in said("two", code=1)
    assert "two holds several graphs: decoder.onnx, encoder.onnx" in said("two", "--fix", code=2)
