"""Markdown for the summary of a CI job, and for a comment that is kept up to date."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphopt.gate._words import amount, cut, headline, titles, value_text, visible
from graphopt.report import GateOutcome, GateReport, Generation, fingerprint, number, seconds_text

__all__ = ["comment", "comment_marker", "step_summary"]

SUMMARY_BYTES = 1024 * 1024
"""GitHub drops the summary of a step that is larger than 1 MiB."""
COMMENT_BYTES = 65536
"""GitHub refuses a comment of more characters, which are never more than bytes."""
_CUT = "\n> Cut here: the whole of it is larger than {limit} bytes. The result file has everything.\n"
_CELL = 500
"""Characters of one cell: a row that is longer is read nowhere, and one cell may not push the others out."""
_TEXT = 2000
"""Characters of a generated text: the first difference is what is looked for."""
_SIGNS = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}
_SPECIAL = re.compile(r"[\\`*_{}\[\]()#+!|~<>&:$\"'-]")


@dataclass(frozen=True)
class _Block:
    """A part of a page: as many of its rows as there is place for, between `head` and `foot`."""

    head: str
    rows: Sequence[str] = ()
    foot: str = ""


def step_summary(report: GateReport) -> str:
    """The report for $GITHUB_STEP_SUMMARY: at most 1 MiB, and cut with a notice where it would be more."""
    return _fitted([*_top(report), *_more(report)], SUMMARY_BYTES)


def comment(report: GateReport) -> str:
    """The report for a comment of a merge or pull request: at most 64 KB, its first line `comment_marker`."""
    return _fitted([_Block(comment_marker(report) + "\n"), *_top(report), *_more(report)], COMMENT_BYTES)


def comment_marker(report: GateReport) -> str:
    """The line, hidden when shown, by which the comment on this package is found again."""
    return f"<!-- graphopt gate {fingerprint([report.provenance.package])[:12]} -->"


def _top(report: GateReport) -> Iterator[_Block]:
    made = report.provenance
    yield _Block(f"## {_SIGNS[report.verdict]} {headline(report)}\n\n")
    beside = f" beside {_code(made.baseline)}" if made.baseline else ""
    yield _Block(f"{_code(made.package)}{beside}\n\n")
    named = sorted(
        zip(report.outcomes, titles(report), strict=True),
        key=lambda pair: ("fail", "inconclusive", "pass").index(pair[0].verdict),
    )
    percent = f"{100 * report.confidence:g} %"
    yield _Block(
        f"| | gate | found [{percent}] | baseline | why |\n|---|---|---|---|---|\n",
        [_row(outcome, title) for outcome, title in named],
        "\n",
    )


def _row(outcome: GateOutcome, title: str) -> str:
    baseline = amount(outcome.metric, outcome.baseline) if outcome.baseline is not None else ""
    why = "; ".join(part for part in (outcome.reason, outcome.needed) if part)
    sign = f"{_SIGNS[outcome.verdict]} {outcome.verdict}"
    return (
        f"| {sign} | {_code(title)} | {_plain(value_text(outcome))} | {_plain(baseline)} | {_plain(why)} |\n"
    )


def _more(report: GateReport) -> Iterator[_Block]:
    if report.notes:
        yield _Block("### Notes\n\n", [f"- {_plain(note)}\n" for note in report.notes], "\n")
    if report.control:
        yield _Block(
            "<details><summary>The package beside itself</summary>\n\n| metric | ratio |\n|---|---|\n",
            [
                f"| {_code(name)} | {number(value)}x [{number(low)}, {number(high)}] |\n"
                for name, (value, low, high) in report.control.items()
            ],
            "\n</details>\n\n",
        )
    differing = [one for one in report.generations if one.reference != one.answer]
    if differing:
        yield _Block(
            f"<details><summary>Generated texts that differ: {len(differing)} of {len(report.generations)}"
            "</summary>\n\n",
            [_generation(one) for one in differing],
            "</details>\n\n",
        )
    yield _Block(
        "<details><summary>Measured with</summary>\n\n",
        [f"- {name}: {_code(value)}\n" for name, value in _facts(report).items()],
        "\n</details>\n",
    )


def _generation(one: Generation) -> str:
    same, rest = one.answer[: one.agreed_text], one.answer[one.agreed_text :]
    expected = one.reference[one.agreed_text :]
    parts = {"prompt": one.prompt, "both": same, "reference goes on": expected, "package goes on": rest}
    text = "\n".join(f"[{name}]\n{cut(part, _TEXT)}" for name, part in parts.items())
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}text\n{visible(text, keep_lines=True)}\n{fence}\n\n"


def _facts(report: GateReport) -> dict[str, str]:
    made = report.provenance
    correction = {"holm": "Holm", "benjamini-hochberg": "Benjamini-Hochberg"}[report.correction]
    facts = {
        "graphopt": made.graphopt,
        "package": made.package_digest,
        "baseline": made.baseline_digest,
        "reference": made.reference,
        "data": " ".join(part for part in (made.data, made.data_digest) if part),
        "tokens": str(made.tokens) if made.tokens else "",
        "processor": f"{made.cpu}, {made.threads} threads" if made.cpu else "",
        "correction": correction,
        "time": seconds_text(sum(report.seconds.values())) if report.seconds else "",
        "commit": made.commit,
        "command": " ".join(made.command),
    }
    return {name: value for name, value in facts.items() if value}


def _fitted(blocks: Sequence[_Block], limit: int) -> str:
    """The `blocks` one after another; where that is more than `limit` bytes, what fits and a notice."""
    notice = _CUT.format(limit=f"{limit:,}")
    if _bytes(whole := "".join(map(_whole, blocks))) <= limit:
        return whole
    left, parts = limit - _bytes(notice), []
    for block in blocks:
        text = _whole(block)
        if _bytes(text) <= left:
            left -= _bytes(text)
            parts.append(text)
            continue
        left -= _bytes(block.head) + _bytes(block.foot)
        rows = []
        for row in block.rows:
            left -= _bytes(row)
            if left < 0:
                break
            rows.append(row)
        if rows:
            parts += [block.head, *rows, block.foot]
        break
    return "".join([*parts, notice])


def _whole(block: _Block) -> str:
    return block.head + "".join(block.rows) + block.foot


def _bytes(text: str) -> int:
    return len(text.encode())


def _plain(text: str) -> str:
    """`text` as text: nothing in it is markup, a cell's end, or somebody who is called."""
    safe = _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", visible(cut(text, _CELL)))
    return safe.replace("@", "@<!-- -->")


def _code(text: str) -> str:
    """`text` in the letters of code, where nobody is called either."""
    safe = _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", visible(cut(text, _CELL)))
    return f"<code>{safe}</code>"
