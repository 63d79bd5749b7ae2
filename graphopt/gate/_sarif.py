"""Gates that did not pass, and edits that were not applied, as SARIF."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from graphopt.gate._words import described, message, place_of, reported
from graphopt.report import (
    EditReport,
    GateReport,
    PassReport,
    Report,
    SarifFinding,
    SarifLevel,
    SarifRule,
    relative_path,
    sarif_log,
    sarif_run,
)

__all__ = ["sarif"]

_INCONCLUSIVE: dict[str, SarifLevel] = {"report": "warning", "fail": "error", "pass": "note"}


def sarif(*reports: GateReport | Report) -> str:
    """Gates that did not pass and edits that were not applied: a SARIF log with a run for each report."""
    runs = []
    for report in reports:
        if isinstance(report, GateReport):
            made = report.provenance
            name, version, found = f"gate/{made.package}", made.graphopt, list(_gates(report))
        else:
            name, version, found = f"optimize/{report.out}", report.graphopt, list(_edits(report))
        runs.append(sarif_run(found, version, f"graphopt/{quote(name, safe='/')}/"))
    return sarif_log(runs)


def _gates(report: GateReport) -> Iterator[SarifFinding]:
    package = report.provenance.package
    for outcome, title in reported(report):
        path, line = place_of(outcome, report)
        level: SarifLevel = "error" if outcome.verdict == "fail" else _INCONCLUSIVE[report.inconclusive]
        yield SarifFinding(
            _gate_rule(outcome.metric),
            level,
            f"{package}: {title}: {message(outcome)}.",
            path,
            line,
            same_as=(package, title),
            properties={"verdict": outcome.verdict},
        )


def _gate_rule(key: str) -> SarifRule:
    metric = described(key)
    meaning = f"{metric.meaning} {metric.better.capitalize()} is better."
    return SarifRule(
        f"gate/{key}",
        "Gate" + "".join(part.capitalize() for part in key.split("_")),
        f"The gate of {metric.label} was not passed.",
        meaning,
        f"{meaning} The package did not keep the bound that it is held to, or the evidence does not show "
        "that it does; the message says which. Make a package that does, or move the bound with a reason.",
    )


def _edits(report: Report) -> Iterator[SarifFinding]:
    where = f"{relative_path(report.out)}/report.json"
    for step in report.passes:
        for edit in step.edits:
            if edit.outcome == "applied" and edit.verdict != "failed":
                continue
            why = f": {edit.reason}" if edit.reason else ""
            what = edit.summary or edit.identity
            yield SarifFinding(
                _edit_rule(step, edit),
                "warning" if edit.verdict == "failed" or edit.outcome == "rolled back" else "note",
                f"{step.title}, edit {edit.number} ({what}) was {edit.outcome}{why}.",
                where,
                1,
                same_as=(report.source, report.recipe, step.title, edit.identity),
                logical=edit.identity,
                properties={"step": step.title, "contract": step.contract},
            )


def _edit_rule(step: PassReport, edit: EditReport) -> SarifRule:
    if edit.verdict == "failed":
        return SarifRule(
            "edit/failed",
            "EditFailed",
            "An edit did not keep its pass's promise.",
            "An edit was run beside what it replaces and differed by more than its pass's contract allows.",
            "The edit is not in the package. `graphopt bisect` finds the smallest graph that shows it: "
            "report that to whoever wrote the pass.",
        )
    if edit.outcome == "rolled back":
        return SarifRule(
            "edit/rolled-back",
            "EditRolledBack",
            "An edit was taken back.",
            "An edit was applied and taken back, and the graph is what it was before.",
            "The package is as right as without the edit, and may be slower. "
            "`graphopt optimize --explain PASS` says more.",
        )
    return SarifRule(
        "edit/refused",
        "EditRefused",
        "An edit was refused.",
        "The engine did not apply an edit that a pass proposed.",
        "The package is as right as without the edit, and may be slower. "
        "`graphopt optimize --explain PASS` says more.",
    )
