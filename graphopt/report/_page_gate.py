"""A gate on the page: its verdict, every outcome beside its bound, and generations side by side."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphopt.metrics import METRICS
from graphopt.report._gate import GateOutcome, GateReport, Generation
from graphopt.report._page_parts import Chart, Fact, Tone, Verdict, plotted
from graphopt.report._quantity import quantity_text, unit_of
from graphopt.report._text import number, plural, seconds_text

__all__ = ["GateView", "GenerationRow", "OutcomeRow", "gate_view"]

_TONES: dict[str, Tone] = {"pass": "good", "fail": "bad", "inconclusive": "unsure"}
_WORDS = {"pass": "Pass", "fail": "Fail", "inconclusive": "Inconclusive"}
_CORRECTIONS = {"holm": "Holm", "benjamini-hochberg": "Benjamini and Hochberg"}
_MARGIN = 0.12
"""Share of the drawn range that is left free at its ends, so that no mark stands on the edge."""


@dataclass(frozen=True)
class OutcomeRow:
    """A gate as text, and its interval as a chart; None where a number is not finite."""

    title: str
    text: str
    where: str
    bound: str
    value: str
    interval: str
    own: str
    baseline: str
    rests_on: str
    p: str
    tone: Tone
    word: str
    why: str
    chart: Chart | None


@dataclass(frozen=True)
class GenerationRow:
    """A prompt, and both answers cut where they part. `same`: they never do."""

    prompt: str
    same: bool
    agreed: str
    reference_agreed: str
    reference_rest: str
    answer_agreed: str
    answer_rest: str


@dataclass(frozen=True)
class GateView:
    """A `GateReport` as the page shows it."""

    report: GateReport
    verdict: Verdict
    facts: Sequence[Fact]
    outcomes: Sequence[OutcomeRow]
    method: str
    control: Sequence[tuple[str, str, str]]
    generations: Sequence[GenerationRow]
    environment: Mapping[str, str]
    command: str

    @property
    def charts(self) -> Iterator[Chart]:
        """Every chart of it."""
        return (row.chart for row in self.outcomes if row.chart is not None)


def gate_view(report: GateReport) -> GateView:
    """`report` as the page shows it: what is broken first, then what is open."""
    order = {"fail": 0, "inconclusive": 1, "pass": 2}
    outcomes = sorted(report.outcomes, key=lambda one: order[one.verdict])
    return GateView(
        report=report,
        verdict=_verdict(report, outcomes),
        facts=list(_facts(report)),
        outcomes=[_row(one, report, at) for at, one in enumerate(outcomes, 1)],
        method=_method(report),
        control=[
            (METRICS[name].label, number(value), f"{low:.4g} to {high:.4g}")
            for name, (value, low, high) in report.control.items()
        ],
        generations=[_generation(one) for one in report.generations],
        environment=_environment(report),
        command=shlex.join(report.provenance.command),
    )


def _verdict(report: GateReport, outcomes: Sequence[GateOutcome]) -> Verdict:
    tone, word = _TONES[report.verdict], _WORDS[report.verdict]
    decisive = [one for one in outcomes if one.verdict == report.verdict]
    if report.verdict == "pass" or not decisive:
        return Verdict(tone, word, f"All {plural(len(outcomes), 'gate')} hold.")
    first = decisive[0]
    said = f"{first.text}: {_value_text(first)}"
    why = "; ".join(part for part in (said, first.reason, first.needed) if part)
    what = "broken" if report.verdict == "fail" else "undecided"
    others = f" {plural(len(decisive) - 1, 'more gate')} {what} as well." if len(decisive) > 1 else ""
    return Verdict(tone, word, f"{len(decisive)} of {plural(len(outcomes), 'gate')} {what}. {why}.{others}")


def _facts(report: GateReport) -> Iterator[Fact]:
    held = sum(one.verdict == "pass" for one in report.outcomes)
    all_hold = held == len(report.outcomes)
    yield Fact("Gates that hold", f"{held} of {len(report.outcomes)}", "", "good" if all_hold else "plain")
    provenance = report.provenance
    yield Fact("Package", provenance.package, f"beside {provenance.baseline}")
    if provenance.tokens:
        yield Fact("Tokens", f"{provenance.tokens:,}", f"of {provenance.data}" if provenance.data else "")
    if report.seconds:
        yield Fact(
            "Time", seconds_text(sum(report.seconds.values())), f"on {provenance.cpu or 'this machine'}"
        )


def _row(one: GateOutcome, report: GateReport, at: int) -> OutcomeRow:
    metric = METRICS[one.metric]
    exact = one.exact or one.low == one.high
    return OutcomeRow(
        title=f"{metric.label} ({one.scope})" if one.scope else metric.label,
        text=one.text,
        where=one.where,
        bound=f"{_OPERATORS[one.operator]} {_text(one, one.bound, short=True)}",
        value=_text(one, one.value, short=True),
        interval=_interval_text(one, exact),
        own=quantity_text(one.metric, one.own),
        baseline="" if one.baseline is None else quantity_text(one.metric, one.baseline),
        rests_on=f"{one.units:,}" if one.units else "",
        p="" if one.adjusted_p is None else f"{one.adjusted_p:.2g}",
        tone=_TONES[one.verdict],
        word=one.verdict,
        why="; ".join(part for part in (one.reason, one.needed) if part),
        chart=_interval_chart(one, report, at),
    )


_OPERATORS = {"<=": "≤", ">=": "≥", "<": "<", ">": ">", "==": "="}


def _value_text(one: GateOutcome) -> str:
    if one.exact:
        return _text(one, one.value)
    return f"{_text(one, one.value)} [{_text(one, one.low)}, {_text(one, one.high)}]"


def _interval_text(one: GateOutcome, exact: bool) -> str:
    unit = "" if one.relative else METRICS[one.metric].unit
    words = f" {unit}" if " " in unit else ""
    return (
        f"exact{words}"
        if exact
        else f"{_text(one, one.low, short=True)} to {_text(one, one.high, short=True)}{words}"
    )


def _text(one: GateOutcome, value: float, *, short: bool = False) -> str:
    """A value that is compared with the bound: a multiple of the baseline's, or in the metric's unit."""
    return f"{value:.4g}x" if one.relative else quantity_text(one.metric, value, short=short)


def _interval_chart(one: GateOutcome, report: GateReport, at: int) -> Chart | None:
    marks = [one.value, one.low, one.high, one.bound]
    if not all(map(math.isfinite, marks)):
        return None
    _, factor = ("", 1.0) if one.relative else unit_of(one.metric, marks)
    control = report.control.get(one.metric) if one.relative else None
    ends = [*marks, *([1.0] if one.relative else []), *(control[1:] if control else [])]
    low, high = min(ends) * factor, max(ends) * factor
    margin = _MARGIN * ((high - low) or abs(high) or 1.0)
    data = {
        "value": one.value * factor,
        "low": one.low * factor,
        "high": one.high * factor,
        "bound": one.bound * factor,
        "domain": [low - margin, high + margin],
        "fails": {"<": "above", ">": "below", "=": ""}[one.operator[0]],
        "same": 1.0 if one.relative else None,
        "control": [plotted(end) for end in control[1:]] if control else None,
        "tone": _TONES[one.verdict],
        "suffix": "x" if one.relative else "",
    }
    text = f"{_value_text(one)} beside the bound {_text(one, one.bound)}"
    return Chart(f"gate-{at}", "interval", one.text, text, data)


def _method(report: GateReport) -> str:
    said = [
        f"Intervals hold with {report.confidence:.0%} confidence; p values are corrected for "
        f"{plural(len(report.outcomes), 'gate')} by {_CORRECTIONS[report.correction]}."
    ]
    if report.control:
        said.append(
            "The grey band is the package beside itself in the same turns: no finer bound is decidable here."
        )
    if report.verdict == "inconclusive" and report.inconclusive != "report":
        said.append(f"An inconclusive gate was asked to count as {report.inconclusive}.")
    return " ".join(said)


def _generation(one: Generation) -> GenerationRow:
    agreed = one.answer[: one.agreed_text]
    shared = agreed if one.reference.startswith(agreed) else ""
    same = one.answer == one.reference
    lengths = f"{one.answer_tokens} of {plural(one.reference_tokens, 'token')}"
    return GenerationRow(
        prompt=one.prompt,
        same=same,
        agreed=f"all {plural(one.agreed, 'token')} the same"
        if same
        else f"the first {plural(one.agreed, 'token')} are the same; the answer has {lengths}",
        reference_agreed=shared,
        reference_rest=one.reference[len(shared) :],
        answer_agreed=agreed,
        answer_rest=one.answer[len(agreed) :],
    )


def _environment(report: GateReport) -> dict[str, str]:
    p = report.provenance
    found = {
        "graphopt": p.graphopt,
        "package": f"{p.package} {p.package_digest}",
        "baseline": f"{p.baseline} {p.baseline_digest}",
        "reference": p.reference,
        "data": f"{p.data} {p.data_digest}",
        "tokens": f"{p.tokens:,}" if p.tokens else "",
        "task": p.task,
        "target": p.target,
        "processor": p.cpu,
        "threads": str(p.threads) if p.threads else "",
        "system": p.system,
        "seeds": ", ".join(f"{name} {seed}" for name, seed in p.seeds.items()),
        "date": p.date,
        "commit": p.commit,
    }
    return {name: text for name, text in found.items() if text.strip()} | p.versions
