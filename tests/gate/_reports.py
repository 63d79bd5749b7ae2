"""Results of gates for tests of what is made from them."""

from __future__ import annotations

from typing import Any

from graphopt.report import GateOutcome, GateReport, Generation, Provenance, RawSample

__all__ = ["NASTY", "gate_report", "nasty_report", "outcome"]

NASTY = [
    "\"quotes\" & 'apostrophes' <tag/> ]]> --> <!-- |pipe| `tick` $x$ @someone #1 %25",
    "control \x00\x01\x08\x0b\x1b[31m \x7f \x85 \ufffe \u202e",
    "lines\r\nand\ttabs\nhere",
    "a picture \U0001f600 and \u2028 another line",
    "long " * 5000,
    "::error file=x::y,z:w",
]
"""Names that no format takes as they are."""


def outcome(verdict: str = "pass", **fields: Any) -> GateOutcome:
    """Of a gate `kl_mean <= 0.02`."""
    found = {
        "text": "kl_mean <= 0.02",
        "where": "graphopt.toml:3",
        "metric": "kl_mean",
        "operator": "<=",
        "bound": 0.02,
        "value": 0.0123,
        "low": 0.0119,
        "high": 0.0127,
        "own": 0.0123,
        "units": 120,
        "verdict": verdict,
        "reason": "" if verdict == "pass" else "0.0123 is not <= 0.02",
    }
    return GateOutcome.model_validate(found | fields)


def gate_report(*verdicts: str, **fields: Any) -> GateReport:
    """A report on gates with these verdicts, none twice the same, and the verdict that follows."""
    outcomes = [
        outcome(verdict, text=f"kl_mean <= 0.0{number + 1}", where=f"graphopt.toml:{number + 2}")
        for number, verdict in enumerate(verdicts)
    ]
    found = {
        "verdict": next((v for v in ("fail", "inconclusive") if v in verdicts), "pass"),
        "outcomes": outcomes,
        "seconds": {"accuracy": 1.5, "speed": 20.25},
        "provenance": Provenance(
            graphopt="0.1.0",
            package="out/tiny-int4",
            package_digest="sha256:" + "ab" * 32,
            baseline="tiny-coder",
            cpu="A processor",
            threads=2,
            date="2026-11-29T09:36:03+00:00",
            commit="0b050b1" + "0" * 33,
            command=["graphopt", "gate", "out/tiny-int4", "--baseline", "tiny-coder"],
        ),
        "samples": [
            RawSample(
                metric="kl_mean",
                kind="documents",
                names=["d1", "d2"],
                values=[[0.1, 0.2], [0.3]],
                baseline=[[0.0, float("nan")], [0.1]],
            )
        ],
    }
    return GateReport.model_validate(found | fields)


def nasty_report(inconclusive: str = "report") -> GateReport:
    """A report in which whatever is text is a nasty one."""
    outcomes = [
        outcome(verdict, text=name, where=where, scope=name, reason=name, needed=name, value=float("nan"))
        for name in NASTY
        for verdict in ("pass", "fail", "inconclusive")
        for where in ("graphopt.toml:3", "command line", f"{name}.toml:7")
    ]
    report = gate_report(
        "fail",
        outcomes=outcomes,
        inconclusive=inconclusive,
        notes=NASTY,
        generations=[
            Generation(
                prompt=name,
                reference=name + "``` a",
                answer=name + "```` b",
                reference_tokens=5,
                answer_tokens=6,
                agreed=3,
                agreed_text=len(name),
            )
            for name in NASTY
        ],
    )
    made = report.provenance
    made.package, made.baseline, made.cpu, made.command = f"/abs/{NASTY[0]}", NASTY[1], NASTY[2], list(NASTY)
    return report
