"""A badge: what shields.io's endpoint asks for."""

from __future__ import annotations

import json

from graphopt.gate._words import counted
from graphopt.report import GateReport, plural

__all__ = ["badge"]

_COLOURS = {"pass": "brightgreen", "fail": "red", "inconclusive": "yellow"}


def badge(report: GateReport) -> str:
    """JSON for https://img.shields.io/endpoint: the verdict and how many gates have it."""
    found, total = counted(report), len(report.outcomes)
    said = {
        "pass": f"{plural(total, 'gate')} passed",
        "fail": f"{found['fail']} of {total} failed",
        "inconclusive": f"{found['inconclusive']} of {total} inconclusive",
    }
    data = {
        "schemaVersion": 1,
        "label": "graphopt gate",
        "message": said[report.verdict],
        "color": _COLOURS[report.verdict],
        "isError": report.verdict == "fail",  # the address cannot give a failure another colour
    }
    return json.dumps(data, indent=1) + "\n"
