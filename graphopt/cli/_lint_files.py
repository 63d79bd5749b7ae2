"""What rules found, for machines."""

from __future__ import annotations

import importlib.metadata
from typing import Any
from urllib.parse import quote

from graphopt.build import LintReport
from graphopt.lint import Rule
from graphopt.report import SarifFinding, SarifRule, relative_path, sarif_log, sarif_run

__all__ = ["as_json", "as_sarif"]


def as_json(report: LintReport, left: LintReport | None) -> dict[str, Any]:
    """What was found, and what is left of it where some was mended."""
    found: dict[str, Any] = {
        "model": str(report.path),
        "target": report.target,
        "rules": [rule.code for rule in report.rules],
        "findings": _findings(report),
    }
    return found if left is None else {**found, "mended": str(left.path), "left": _findings(left)}


def as_sarif(report: LintReport) -> str:
    """A SARIF log: a result for each place. A node has no line in a model, and is a logical location."""
    folder = relative_path(str(report.path))
    is_file = report.path.is_file()
    results = [
        SarifFinding(
            _rule(rule),
            rule.severity,
            f"{finding.node}: {finding.text}." if finding.node else f"{finding.text}.",
            folder if is_file and finding.file == report.path.name else f"{folder}/{finding.file}",
            1,
            same_as=(folder, finding.file, finding.node, rule.name),
            logical=finding.node,
            properties={"target": report.target, "mends": [step.name for step in rule.mends]},
        )
        for rule, finding in report.found
    ]
    category = quote(f"lint/{folder}/{report.target}", safe="/")
    version = importlib.metadata.version("graphopt")
    return sarif_log([sarif_run(results, version, f"graphopt/{category}/")])


def _findings(report: LintReport) -> list[dict[str, str | list[str]]]:
    return [
        {
            "code": rule.code,
            "name": rule.name,
            "severity": rule.severity,
            "file": finding.file,
            "node": finding.node,
            "text": finding.text,
            "mends": [step.name for step in rule.mends],
        }
        for rule, finding in report.found
    ]


def _rule(rule: Rule) -> SarifRule:
    name = "".join(part.capitalize() for part in rule.name.split("-"))
    passes = ", ".join(step.name for step in rule.mends)
    fix = f"`graphopt lint --fix` runs {passes}. " if passes else ""
    full = f"{rule.summary} {rule.why}"
    return SarifRule(f"lint/{rule.code}", name, rule.summary, full, f"{fix}{rule.remedy}")
