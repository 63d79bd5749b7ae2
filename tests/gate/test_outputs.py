"""What CI takes home of a gate: small formats, and that nothing in a name is taken for a command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from graphopt.gate import badge, code_quality, github_annotations, junit, samples_jsonl, sarif, step_summary
from graphopt.report import GateReport
from tests.gate._reports import NASTY, gate_report, nasty_report, outcome


@pytest.mark.parametrize(
    "make", [badge, code_quality, github_annotations, junit, samples_jsonl, sarif, step_summary]
)
def test_outputs_are_text_that_a_file_can_hold(make: Callable[[GateReport], str]) -> None:
    assert make(nasty_report()).encode("utf-8").endswith(b"\n")


@pytest.mark.parametrize(
    ("verdicts", "colour", "message"),
    [
        (("pass", "pass"), "brightgreen", "2 gates passed"),
        (("pass",), "brightgreen", "1 gate passed"),
        (("pass", "fail", "inconclusive"), "red", "1 of 3 failed"),
        (("pass", "inconclusive"), "yellow", "1 of 2 inconclusive"),
    ],
)
def test_a_badge_has_the_colour_of_the_verdict(verdicts: tuple[str, ...], colour: str, message: str) -> None:
    shown = json.loads(badge(gate_report(*verdicts)))

    assert (shown["schemaVersion"], shown["color"], shown["message"]) == (1, colour, message)
    assert shown["isError"] is (colour == "red")


def test_annotations_stand_where_the_gate_is_written() -> None:
    first, second = github_annotations(gate_report("pass", "inconclusive", "fail")).splitlines()

    assert first.startswith("::error file=graphopt.toml,line=4,title=graphopt gate%3A kl_mean <= 0.03::")
    assert second.startswith("::warning file=graphopt.toml,line=3,")


@pytest.mark.parametrize(
    ("counts_as", "command"), [("pass", "notice"), ("report", "warning"), ("fail", "error")]
)
def test_an_inconclusive_gate_is_annotated_as_what_it_counts_as(counts_as: str, command: str) -> None:
    report = gate_report("inconclusive", inconclusive=counts_as)

    assert github_annotations(report).startswith(f"::{command} ")


def test_no_more_annotations_than_are_shown() -> None:
    lines = github_annotations(gate_report(*["fail"] * 30)).splitlines()

    assert len(lines) == 10
    assert "21 more gates" in lines[-1]


def test_a_name_starts_no_workflow_command() -> None:
    for line in github_annotations(nasty_report()).splitlines():
        assert re.match(r"::(error|warning) (file=[^:,]*,line=\d+,)?title=[^:,]*::", line)


def test_code_quality_is_what_gitlab_reads() -> None:
    entries = json.loads(code_quality(gate_report("fail", "pass", "inconclusive")))

    assert [entry["severity"] for entry in entries] == ["critical", "major"]
    assert entries[0]["location"] == {"path": "graphopt.toml", "lines": {"begin": 2}}
    assert entries[0]["check_name"] == "gate/kl_mean"
    assert len({entry["fingerprint"] for entry in entries}) == 2


def test_a_finding_keeps_its_fingerprint_when_values_and_lines_move() -> None:
    before, after = gate_report("fail"), gate_report("fail")
    after.outcomes = [outcome("fail", text="kl_mean <= 0.01", where="graphopt.toml:99", value=0.5)]

    prints = [json.loads(code_quality(report))[0]["fingerprint"] for report in (before, after)]
    assert prints[0] == prints[1]


def test_paths_are_relative_and_stay_inside() -> None:
    report = gate_report("fail", outcomes=[outcome("fail", where="recipe")])
    for package, shown in {
        "./out/a": "out/a/graphopt.json",
        "/tmp/out/a": "a/graphopt.json",
        "../a": "a/graphopt.json",
        "C:\\x\\a": "a/graphopt.json",
        ".": "package/graphopt.json",
    }.items():
        report.provenance.package = package
        assert json.loads(code_quality(report))[0]["location"]["path"] == shown


def test_samples_are_a_line_each() -> None:
    rows = [json.loads(line) for line in samples_jsonl(gate_report("pass")).splitlines()]

    assert [(row["side"], row["index"], row["name"]) for row in rows] == [
        ("package", 0, "d1"),
        ("package", 1, "d2"),
        ("baseline", 0, "d1"),
        ("baseline", 1, "d2"),
    ]
    assert rows[2]["values"] == [0.0, "NaN"]


def test_no_samples_are_no_lines() -> None:
    assert samples_jsonl(gate_report("pass", samples=[])) == ""


def test_nasty_names_are_what_they_are_called() -> None:
    assert len(NASTY) == len(set(NASTY))
