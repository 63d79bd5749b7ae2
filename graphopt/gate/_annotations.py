"""What a forge shows beside the lines of a file: GitHub's workflow commands, GitLab's code quality."""

from __future__ import annotations

import json

from graphopt.gate._words import cut, message, place_of, reported, visible
from graphopt.report import GateOutcome, GateReport, fingerprint

__all__ = ["code_quality", "github_annotations"]

_MOST = 10
"""GitHub shows no more errors, warnings and notices of one step than ten each, and drops the others."""
_LONGEST = 4000
"""Characters of a message or a name: GitHub's runner cuts a message at 4,096."""
_COMMANDS = {"report": "warning", "fail": "error", "pass": "notice"}
_SEVERITIES = {"report": "major", "fail": "critical", "pass": "info"}


def github_annotations(report: GateReport) -> str:
    """Lines that a GitHub workflow prints to mark gates that did not pass, where they are written."""
    by_command: dict[str, list[str]] = {"error": [], "warning": [], "notice": []}
    for outcome, title in reported(report):
        path, line = place_of(outcome, report)
        command = _of(outcome, report, "error", _COMMANDS)
        where = f"file={_property(path)},line={line},title={_property(f'graphopt gate: {title}')}"
        by_command[command].append(f"::{command} {where}::{_data(message(outcome))}\n")
    return "".join(line for command, lines in by_command.items() for line in _shown(command, lines))


def _shown(command: str, lines: list[str]) -> list[str]:
    if len(lines) <= _MOST:
        return lines
    rest = f"{len(lines) - _MOST + 1} more gates: the summary has all of them"
    return [*lines[: _MOST - 1], f"::{command} title=graphopt gate::{rest}\n"]


def code_quality(report: GateReport) -> str:
    """The report in GitLab's code quality format (a subset of Code Climate's): JSON, an entry for each gate
    that did not pass."""
    entries = []
    for outcome, title in reported(report):
        path, line = place_of(outcome, report)
        entries.append(
            {
                "description": f"{title}: {message(outcome)}",
                "check_name": f"gate/{outcome.metric}",
                "fingerprint": fingerprint([report.provenance.package, title, outcome.verdict]),
                "severity": _of(outcome, report, "critical", _SEVERITIES),
                "location": {"path": path, "lines": {"begin": line}},
            }
        )
    return json.dumps(entries, indent=1) + "\n"


def _of(outcome: GateOutcome, report: GateReport, failed: str, inconclusive: dict[str, str]) -> str:
    return failed if outcome.verdict == "fail" else inconclusive[report.inconclusive]


def _data(text: str) -> str:
    return visible(cut(text, _LONGEST), keep_lines=True).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
