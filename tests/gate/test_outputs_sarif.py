"""SARIF of gates and of edits: held to the schema of OASIS, to what code scanning asks, to a validator."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from graphopt.gate import sarif
from graphopt.report import ClosingReport, EditReport, PassReport, Report, Sizes
from tests._cache import ROOT
from tests.gate._reports import NASTY, gate_report, nasty_report

SCHEMA = json.loads((Path(__file__).parent / "schemas/sarif-2.1.0.json").read_text())
HOMELESS = "SARIF2005"
"""Warns that the tool names no page about itself: the project has no address to name."""
VALIDATOR = "@microsoft/sarif-multitool@5.7.0"


def edits_report(names: list[str]) -> Report:
    edits = [
        EditReport(number=number, identity=f"fuse#{number} {name}", summary=name, reason=name, **outcome)
        for number, name in enumerate(names)
        for outcome in (
            {"outcome": "applied", "verdict": "proven"},
            {"outcome": "refused"},
            {"outcome": "rolled back", "verdict": "failed"},
            {"outcome": "rolled back"},
        )
    ]
    return Report(
        graphopt="0.1.0",
        source="tiny-coder",
        out="out/tiny-int4",
        task="text-generation",
        family=None,
        target="cpu",
        recipe="int4",
        lossless=False,
        verify="numeric",
        passes=[
            PassReport(
                step="fuse-something",
                level="raise",
                contract="exact",
                edits=edits,
                nodes_before=5,
                nodes_after=4,
                bytes_before=8,
                bytes_after=8,
                seconds=0.1,
                modified=True,
            )
        ],
        closing=ClosingReport(verdict="passed"),
        sizes=Sizes(source_weight_bytes=8, package_weight_bytes=8, package_bytes=9),
    )


def checked(text: str) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(text)
    jsonschema.validate(log, SCHEMA)
    return log


def test_a_gate_that_fails_is_an_error_beside_its_line() -> None:
    (run,) = checked(sarif(gate_report("pass", "fail")))["runs"]
    (result,) = run["results"]
    place = result["locations"][0]["physicalLocation"]

    assert result["level"] == "error"
    assert place["artifactLocation"]["uri"] == "graphopt.toml"
    assert place["region"]["startLine"] == 3
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "gate/kl_mean"
    assert run["automationDetails"]["id"] == "graphopt/gate/out/tiny-int4/"


@pytest.mark.parametrize(("counts_as", "level"), [("report", "warning"), ("fail", "error"), ("pass", "note")])
def test_an_inconclusive_gate_is_as_severe_as_it_counts(counts_as: str, level: str) -> None:
    (run,) = checked(sarif(gate_report("inconclusive", inconclusive=counts_as)))["runs"]

    assert [result["level"] for result in run["results"]] == [level]


def test_edits_that_were_not_applied_are_findings() -> None:
    (run,) = checked(sarif(edits_report(["Mul and Add"])))["runs"]

    assert [(r["ruleId"], r["level"]) for r in run["results"]] == [
        ("edit/failed", "warning"),
        ("edit/rolled-back", "warning"),
        ("edit/refused", "note"),
    ]
    first = run["results"][0]
    assert first["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "fuse#0 Mul and Add"}]
    assert first["message"]["text"] == "fuse-something, edit 0 (Mul and Add) was rolled back: Mul and Add."


def test_nothing_wrong_is_a_log_without_results() -> None:
    (run,) = checked(sarif(gate_report("pass")))["runs"]

    assert run["results"] == []


@pytest.mark.parametrize("report", [nasty_report(), edits_report(NASTY)], ids=["gates", "edits"])
def test_code_scanning_gets_a_relative_path_and_a_region(report: Any) -> None:
    (run,) = checked(sarif(report))["runs"]

    assert run["results"]
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]
        assert not place["artifactLocation"]["uri"].startswith(("/", "file:"))
        assert ".." not in place["artifactLocation"]["uri"].split("/")
        assert place["region"]["startLine"] >= 1
        assert len(result["partialFingerprints"]["primaryLocationLineHash"]) == 32


def test_no_more_results_than_are_shown_and_the_worst_of_them() -> None:
    report = gate_report(*["inconclusive"] * 6000, "fail")
    (run,) = json.loads(sarif(report))["runs"]
    said = run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]

    assert len(run["results"]) == 5000
    assert run["results"][0]["level"] == "error"
    assert said.startswith("1001 more findings")


def test_the_schema_refuses_what_is_wrong() -> None:
    log = json.loads(sarif(gate_report("fail")))
    log["runs"][0]["results"][0]["level"] = "catastrophe"

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, SCHEMA)


@pytest.fixture(scope="module")
def multitool() -> Path:
    """The validator of npm, which is installed once and needs no network to run."""
    folder = ROOT / "build/test-cache/sarif-multitool"
    program = folder / "node_modules/@microsoft/sarif-multitool-linux/Sarif.Multitool"
    if not program.exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is not here, so neither is @microsoft/sarif-multitool")
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            "npm",
            "install",
            "--prefix",
            folder,
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            VALIDATOR,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"npm could not install {VALIDATOR}: {done.stderr.strip().splitlines()[-1:]}")
    program.chmod(0o755)
    return program


@pytest.mark.slow
@pytest.mark.parametrize(
    "report",
    [gate_report("fail", "inconclusive", "pass"), nasty_report(), edits_report(NASTY)],
    ids=["gates", "nasty", "edits"],
)
def test_the_validator_of_npm_accepts_it(multitool: Path, report: Any, tmp_path: Path) -> None:
    assert validated(multitool, sarif(report), tmp_path) == []


@pytest.mark.slow
def test_the_validator_of_npm_refuses_what_is_wrong(multitool: Path, tmp_path: Path) -> None:
    log = json.loads(sarif(gate_report("fail")))
    log["runs"][0]["results"][0]["ruleIndex"] = 77

    assert validated(multitool, json.dumps(log), tmp_path) != []


def validated(multitool: Path, text: str, folder: Path) -> list[str]:
    """Errors and warnings of `sarif validate`, and of its rules for GitHub's code scanning."""
    (folder / "log.sarif").write_text(text)
    done = subprocess.run(
        [
            multitool,
            "validate",
            "log.sarif",
            "--output",
            "found.sarif",
            "--rule-kind",
            "Sarif;Ghas",
            "--log",
            "ForceOverwrite",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (folder / "found.sarif").exists(), done.stdout + done.stderr
    (run,) = json.loads((folder / "found.sarif").read_text(encoding="utf-8-sig"))["runs"]
    return [
        f"{result['ruleId']}: {result['message']}"
        for result in run.get("results", [])
        if result.get("level", "warning") in ("error", "warning") and result["ruleId"] != HOMELESS
    ]
