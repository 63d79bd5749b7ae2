"""Passes on the page: what each did as a row, and all of them as a waterfall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphopt.report._model import EditReport, PassReport, Report
from graphopt.report._page_parts import Chart, scaled_bytes
from graphopt.report._quantity import unit_of
from graphopt.report._text import bytes_change, bytes_text, number, seconds_text

__all__ = ["EditRow", "PassRow", "by_role", "pass_row", "totals", "waterfalls"]

_LISTED = 100
"""Rows of edits, and reasons, of one pass: more are not read on a page, and report.json has them."""
_VISIBLE = 0.002
"""Share of the largest value below which a bar of a waterfall is no pixel wide."""


@dataclass(frozen=True)
class EditRow:
    """Edits of a pass that are alike in all but where they are."""

    count: int
    summary: str
    outcome: str
    verdict: str
    how: str
    value: str
    bound: str
    reason: str


@dataclass(frozen=True)
class PassRow:
    """A step as text. `edits` are its edits, alike ones once, `misses` reasons and how often each was met."""

    title: str
    level: str
    contract: str
    options: str
    applied: int
    nodes: str
    weights: str
    reads: str
    flops: str
    seconds: str
    checking: str
    proved: str
    modified: bool
    skipped: str
    edits: Sequence[EditRow]
    edits_left_out: int
    misses: Sequence[tuple[str, int]]
    misses_left_out: int


def pass_row(step: PassReport) -> PassRow:
    """`step` as text."""
    before, after = step.nodes_before, step.nodes_after
    edits = sorted(_edit_rows(step.edits), key=lambda row: row.verdict == "proven")
    misses = Counter(miss.reason for miss in step.near_misses).most_common()
    return PassRow(
        title=step.title,
        level=step.level,
        contract=step.contract,
        options=", ".join(f"{name} = {value}" for name, value in step.options.items()),
        applied=step.applied,
        nodes=f"{before:,} → {after:,}" if before != after else f"{after:,}",
        weights=bytes_change(step.bytes_before, step.bytes_after),
        reads=bytes_change(step.reads_before, step.reads_after) if step.reads_after else "",
        flops=_flops_change(step) if step.flops_after else "",
        seconds="cached" if step.cached else seconds_text(step.seconds),
        checking="" if step.cached else seconds_text(step.check_seconds),
        proved=step.proved,
        modified=step.modified,
        skipped=step.skipped or "",
        edits=edits[:_LISTED],
        edits_left_out=len(edits[_LISTED:]),
        misses=misses[:_LISTED],
        misses_left_out=len(misses[_LISTED:]),
    )


def _flops_change(step: PassReport) -> str:
    unit, factor = unit_of("flops_per_token", [step.flops_before, step.flops_after])
    before, after = (number(flops * factor) for flops in (step.flops_before, step.flops_after))
    return f"{after} {unit}" if before == after else f"{before} → {after} {unit}"


def _edit_rows(edits: Sequence[EditReport]) -> Iterator[EditRow]:
    alike: dict[tuple[str, ...], list[EditReport]] = {}
    for edit in edits:
        known: str = edit.verdict or "not checked"
        alike.setdefault((edit.summary, edit.outcome, known, edit.how, edit.reason), []).append(edit)
    for (summary, outcome, verdict, how, reason), group in alike.items():
        furthest = max(group, key=lambda edit: abs(edit.value - edit.bound) * (-1 if edit.bound else 1))
        measured = any(edit.value or edit.bound for edit in group)
        yield EditRow(
            count=len(group),
            summary=summary,
            outcome=outcome,
            verdict=verdict,
            how=how,
            value=f"{furthest.value:.3g}" if measured else "",
            bound=f"{furthest.bound:.3g}" if measured else "",
            reason=reason,
        )


def by_role(report: Report) -> dict[str, list[PassReport]]:
    """The steps over each graph."""
    found: dict[str, list[PassReport]] = {}
    for step in report.passes:
        found.setdefault(step.role, []).append(step)
    return found


def totals(steps: Sequence[PassReport], what: str) -> tuple[int, int]:
    """ "nodes" or "bytes" before the first step and after the last."""
    return getattr(steps[0], f"{what}_before"), getattr(steps[-1], f"{what}_after")


def waterfalls(report: Report, key: str) -> Iterator[Chart]:
    """For each graph, nodes and bytes of weights step by step."""
    for role, steps in by_role(report).items():
        for what, title in (("nodes", "Nodes"), ("bytes", "Bytes of weights")):
            of = "" if role == "model" else f" of the {role}"
            chart = _waterfall(steps, what, f"{key}-{role}-{what}", title + of)
            if chart is not None:
                yield chart


def _waterfall(steps: Sequence[PassReport], what: str, key: str, title: str) -> Chart | None:
    first, last = totals(steps, what)
    values = [(step.step, getattr(step, f"{what}_before"), getattr(step, f"{what}_after")) for step in steps]
    most = max(first, *(max(before, after) for _, before, after in values))
    shown = [one for one in values if abs(one[2] - one[1]) > _VISIBLE * most]
    if not shown:
        return None
    flat = [first, *(size for _, *pair in shown for size in pair), last]
    unit, scaled = scaled_bytes(flat) if what == "bytes" else ("nodes", [float(size) for size in flat])
    pairs = [(scaled[i], scaled[i + 1]) for i in range(1, len(scaled) - 1, 2)]
    texts = [_change(what, before, after) for _, before, after in shown]
    rows = [
        {"name": name, "from": a, "to": b, "text": text}
        for (name, *_), (a, b), text in zip(shown, pairs, texts, strict=True)
    ]
    ends = [
        {"name": "before", "value": scaled[0], "text": _total(what, first)},
        {"name": "after", "value": scaled[-1], "text": _total(what, last)},
    ]
    text = f"A waterfall from {_total(what, first)} to {_total(what, last)}, step by step."
    return Chart(key, "waterfall", title, text, {"rows": rows, "ends": ends, "unit": unit})


def _total(what: str, size: int) -> str:
    return bytes_text(size) if what == "bytes" else f"{size:,}"


def _change(what: str, before: int, after: int) -> str:
    sign = "+" if after > before else "\N{MINUS SIGN}"
    return f"{sign}{_total(what, abs(after - before))}"
