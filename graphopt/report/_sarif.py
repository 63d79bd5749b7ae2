"""SARIF 2.1.0 (OASIS): findings as code scanning shows them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal
from urllib.parse import quote

__all__ = [
    "SarifFinding",
    "SarifLevel",
    "SarifRule",
    "fingerprint",
    "relative_path",
    "sarif_log",
    "sarif_run",
]

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_MOST = 5000
"""GitHub shows no more results of a run than that, the most severe first."""

SarifLevel = Literal["error", "warning", "note"]
_LEVELS: tuple[SarifLevel, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class SarifRule:
    """What findings of one kind break. `id` is stable, `name` in PascalCase; `help` is what to do."""

    id: str
    name: str
    short: str
    full: str
    help: str


@dataclass(frozen=True)
class SarifFinding:
    """One result. `path` is relative to the repository, `line` from 1. `logical` is a place within a model: a
    node or an edit. `same_as` is what makes it the same finding in another run."""

    rule: SarifRule
    level: SarifLevel
    message: str
    path: str
    line: int
    same_as: tuple[str, ...]
    logical: str = ""
    properties: dict[str, Any] = field(default_factory=dict)


def sarif_log(runs: Sequence[dict[str, Any]]) -> str:
    """A SARIF log of these `runs`, each of `sarif_run`."""
    return (
        json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": list(runs)}, indent=1, allow_nan=False)
        + "\n"
    )


def sarif_run(findings: Sequence[SarifFinding], version: str, category: str) -> dict[str, Any]:
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


def _rule(rule: SarifRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.short},
        "fullDescription": {"text": rule.full},
        "help": {"text": rule.help, "markdown": rule.help},
    }


def _result(finding: SarifFinding, index: dict[str, int]) -> dict[str, Any]:
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


def relative_path(path: str) -> str:
    """`path` with slashes and below the folder that everything is relative to: else only its last name.

    Code scanning refuses absolute paths and those that lead out of the repository.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    outside = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute() or ".." in parts
    inside = [part for part in parts if part != ".."]
    return "/".join(inside[-1:] if outside else inside) or "package"


def fingerprint(parts: Iterable[str]) -> str:
    """What stays the same for a finding as long as it is the same finding: no values, no lines."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
