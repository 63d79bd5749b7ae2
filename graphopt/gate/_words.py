"""What every output says of a gate, in the same words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from graphopt.metrics import METRICS, Metric
from graphopt.report import GateOutcome, GateReport, bytes_text, number, plural, relative_path

__all__ = [
    "amount",
    "counted",
    "cut",
    "described",
    "headline",
    "message",
    "place_of",
    "reported",
    "titles",
    "value_text",
    "visible",
]

_LINE = re.compile(r"(?P<path>.+\.toml):(?P<line>\d+)")
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_COUNTED_AS = {"pass": "counted as pass", "fail": "counted as fail", "report": "exit code 3"}


def titles(report: GateReport) -> list[str]:
    """A name for each outcome that no other has: the gate as it was written, and of what.

    GitLab shows the first of several tests of one name, and drops the others.
    """
    seen: dict[str, int] = {}
    names = []
    for outcome in report.outcomes:
        name = f"{outcome.text} ({outcome.scope})" if outcome.scope else outcome.text
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return names


def described(key: str) -> Metric:
    """The metric of this key; what a later graphopt measures has only its name."""
    return METRICS.get(key) or Metric(key, key, "", "smaller", "A metric that this graphopt does not know.")


def value_text(outcome: GateOutcome) -> str:
    """`0.0123 [0.0119, 0.0127] nats a token`, `1.04x [1.02, 1.06]`, `11.4 MB`."""
    if outcome.exact:
        return f"{number(outcome.value)}x" if outcome.relative else amount(outcome.metric, outcome.value)
    if outcome.relative:
        return f"{number(outcome.value)}x [{number(outcome.low)}, {number(outcome.high)}]"
    metric = described(outcome.metric)
    interval = f"{metric.text(outcome.value)} [{metric.text(outcome.low)}, {metric.text(outcome.high)}]"
    return f"{interval} {metric.unit}".rstrip()


def amount(key: str, value: float) -> str:
    """A value of the metric with its unit: `11.4 MB`, `0.0123 nats a token`."""
    metric = described(key)
    if metric.unit == "bytes" and 0 <= value < math.inf:
        return bytes_text(int(value))
    return f"{metric.text(value)} {metric.unit}".rstrip()


def message(outcome: GateOutcome) -> str:
    """One sentence or two: what was found, why it did not pass, and what would decide."""
    parts = [f"{outcome.metric} is {value_text(outcome)}, asked is {_asked(outcome)}", outcome.reason]
    if outcome.needed:
        parts.append(f"needed: {outcome.needed}")
    return "; ".join(part for part in parts if part)


def _asked(outcome: GateOutcome) -> str:
    times = "x the baseline's" if outcome.relative else ""
    return f"{outcome.operator} {outcome.bound:.6g}{times}"


def counted(report: GateReport) -> dict[str, int]:
    """How many gates have which verdict: pass, fail, inconclusive."""
    verdicts = [outcome.verdict for outcome in report.outcomes]
    return {verdict: verdicts.count(verdict) for verdict in ("pass", "fail", "inconclusive")}


def headline(report: GateReport) -> str:
    """`2 of 12 gates failed`, `12 gates passed`, `1 of 12 gates is inconclusive (exit code 3)`."""
    found, total = counted(report), len(report.outcomes)
    if report.verdict == "pass":
        return f"{plural(total, 'gate')} passed"
    if report.verdict == "fail":
        return f"{found['fail']} of {plural(total, 'gate')} failed"
    verb = "is" if found["inconclusive"] == 1 else "are"
    how = _COUNTED_AS[report.inconclusive]
    return f"{found['inconclusive']} of {plural(total, 'gate')} {verb} inconclusive ({how})"


def place_of(outcome: GateOutcome, report: GateReport) -> tuple[str, int]:
    """Where to show an outcome: file and line of the gate, else the package's manifest."""
    if found := _LINE.fullmatch(outcome.where):
        return relative_path(found["path"]), max(1, int(found["line"]))
    return f"{relative_path(report.provenance.package)}/graphopt.json", 1


def reported(report: GateReport) -> Iterator[tuple[GateOutcome, str]]:
    """Outcomes that are not pass, with their titles: failed ones first."""
    named = list(zip(report.outcomes, titles(report), strict=True))
    for verdict in ("fail", "inconclusive"):
        yield from ((outcome, title) for outcome, title in named if outcome.verdict == verdict)


def cut(text: str, most: int) -> str:
    """`text`, or as much of its beginning as leaves place for a mark that there was more."""
    return text if len(text) <= most else text[: most - 1] + "…"


def visible(text: str, *, keep_lines: bool = False) -> str:
    r"""`text` with control characters spelled out, as in `\x1b`; line ends too, but where they are kept."""
    return _UNSEEN.sub(
        lambda found: found[0] if keep_lines and found[0] in "\n\t" else ascii(found[0])[1:-1], text
    )
