"""SARIF 2.1.0 (OASIS): findings as code scanning shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from graphopt.gate._words import described, fingerprint, message, place_of, relative_path, reported
from graphopt.report import EditReport, GateReport, PassReport, Report

__all__ = ["Finding", "Rule", "log", "sarif"]

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_MOST = 5000
"""GitHub shows no more results of a run than that, the most severe first."""

Level = Literal["error", "warning", "note"]
_LEVELS: tuple[Level, ...] = ("error", "warning", "note")
_INCONCLUSIVE: dict[str, Level] = {"report": "warning", "fail": "error", "pass": "note"}


@dataclass(frozen=True)
class Rule:
    """What findings of one kind break. `id` is stable, `name` in PascalCase; `help` is what to do."""

    id: str
    name: str
    short: str
    full: str
    help: str


@dataclass(frozen=True)
class Finding:
    """One result. `path` is relative to the repository, `line` from 1. `logical` is a place within a model: a
    node or an edit. `same_as` is what makes it the same finding in another run."""

    rule: Rule
    level: Level
    message: str
    path: str
    line: int
    same_as: tuple[str, ...]
    logical: str = ""
    properties: dict[str, Any] = field(default_factory=dict)


def sarif(*reports: GateReport | Report) -> str:
    """Gates that did not pass and edits that were not applied: a SARIF log with a run for each report."""
    runs = []
    for report in reports:
        if isinstance(report, GateReport):
            made = report.provenance
            name, version, found = f"gate/{made.package}", made.graphopt, list(_gates(report))
        else:
            name, version, found = f"optimize/{report.out}", report.graphopt, list(_edits(report))
        runs.append(log(found, version, f"graphopt/{quote(name, safe='/')}/"))
    return (
        json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": runs}, indent=1, allow_nan=False) + "\n"
    )


def log(findings: Sequence[Finding], version: str, category: str) -> dict[str, Any]:
    """A SARIF run. Of one `category`, a later upload takes the place of the earlier."""
    kept = sorted(findings, key=lambda finding: _LEVELS.index(finding.level))[:_MOST]
    rules = list({finding.rule.id: finding.rule for finding in kept}.values())
    index = {rule.id: at for at, rule in enumerate(rules)}
    driver = {"name": "graphopt", "version": version, "rules": [_rule(rule) for rule in rules]}
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "automationDetails": {"id": category},
        "invocations": [{"executionSuccessful": True}],
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, index) for finding in kept],
    }
    if left := len(findings) - len(kept):
        said = {"text": f"{left} more findings, none more severe, are left out."}
        run["invocations"][0]["toolExecutionNotifications"] = [{"level": "warning", "message": said}]
    return run


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.short},
        "fullDescription": {"text": rule.full},
        "help": {"text": rule.help, "markdown": rule.help},
    }


def _result(finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": quote(finding.path, safe="/"), "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": finding.line, "startColumn": 1},
        }
    }
    if finding.logical:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.logical}]
    return {
        "ruleId": finding.rule.id,
        "ruleIndex": index[finding.rule.id],
        "level": finding.level,
        "message": {"text": finding.message},
        "locations": [location],
        # The name that code scanning looks for; it would hash the file's line itself, values and all.
        "partialFingerprints": {"primaryLocationLineHash": fingerprint((finding.rule.id, *finding.same_as))},
        **({"properties": finding.properties} if finding.properties else {}),
    }


def _gates(report: GateReport) -> Iterator[Finding]:
    package = report.provenance.package
    for outcome, title in reported(report):
        path, line = place_of(outcome, report)
        level: Level = "error" if outcome.verdict == "fail" else _INCONCLUSIVE[report.inconclusive]
        yield Finding(
            _gate_rule(outcome.metric),
            level,
            f"{package}: {title}: {message(outcome)}.",
            path,
            line,
            same_as=(package, title),
            properties={"verdict": outcome.verdict},
        )


def _gate_rule(key: str) -> Rule:
    metric = described(key)
    meaning = f"{metric.meaning} {metric.better.capitalize()} is better."
    return Rule(
        f"gate/{key}",
        "Gate" + "".join(part.capitalize() for part in key.split("_")),
        f"The gate of {metric.label} was not passed.",
        meaning,
        f"{meaning} The package did not keep the bound that it is held to, or the evidence does not show "
        "that it does; the message says which. Make a package that does, or move the bound with a reason.",
    )


def _edits(report: Report) -> Iterator[Finding]:
    where = f"{relative_path(report.out)}/report.json"
    for step in report.passes:
        for edit in step.edits:
            if edit.outcome == "applied" and edit.verdict != "failed":
                continue
            why = f": {edit.reason}" if edit.reason else ""
            what = edit.summary or edit.identity
            yield Finding(
                _edit_rule(step, edit),
                "warning" if edit.verdict == "failed" or edit.outcome == "rolled back" else "note",
                f"{step.title}, edit {edit.number} ({what}) was {edit.outcome}{why}.",
                where,
                1,
                same_as=(report.source, report.recipe, step.title, edit.identity),
                logical=edit.identity,
                properties={"step": step.title, "contract": step.contract},
            )


def _edit_rule(step: PassReport, edit: EditReport) -> Rule:
    if edit.verdict == "failed":
        return Rule(
            "edit/failed",
            "EditFailed",
            "An edit did not keep its pass's promise.",
            "An edit was run beside what it replaces and differed by more than its pass's contract allows.",
            "The edit is not in the package. `graphopt bisect` finds the smallest graph that shows it: "
            "report that to whoever wrote the pass.",
        )
    if edit.outcome == "rolled back":
        return Rule(
            "edit/rolled-back",
            "EditRolledBack",
            "An edit was taken back.",
            "An edit was applied and taken back, and the graph is what it was before.",
            "The package is as right as without the edit, and may be slower. "
            "`graphopt optimize --explain PASS` says more.",
        )
    return Rule(
        "edit/refused",
        "EditRefused",
        "An edit was refused.",
        "The engine did not apply an edit that a pass proposed.",
        "The package is as right as without the edit, and may be slower. "
        "`graphopt optimize --explain PASS` says more.",
    )
