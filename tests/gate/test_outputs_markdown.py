"""Markdown of a gate: what is read first, what is cut, and that names stay names."""

from __future__ import annotations

import re

import pytest

from graphopt.gate import comment, comment_marker, step_summary
from graphopt.report import Generation
from tests.gate._reports import NASTY, gate_report, nasty_report


def test_what_failed_comes_first() -> None:
    text = step_summary(gate_report("pass", "fail", "inconclusive"))
    rows = [line for line in text.splitlines() if line.startswith("| ") and "<code>" in line]

    assert text.startswith("## ❌ 1 of 3 gates failed\n")
    assert [row.split("|")[1].split()[1] for row in rows] == ["fail", "inconclusive", "pass"]
    assert "Cut here" not in text


@pytest.mark.parametrize(("make", "limit"), [(step_summary, 2**20), (comment, 65536)])
def test_what_is_too_long_is_cut_with_a_notice(make, limit: int) -> None:  # type: ignore[no-untyped-def]
    report = gate_report(*["pass"] * 20_000, "fail")
    text = make(report)

    assert 0.9 * limit < len(text.encode()) <= limit
    assert text.rstrip().endswith("The result file has everything.")
    assert text.count("| ❌ fail |") == 1  # what failed is not what is cut
    assert text.count("<details>") == text.count("</details>")


def test_one_text_does_not_push_out_the_rest() -> None:
    text = comment(gate_report("fail", notes=["x" * 10**6]))

    assert "Cut here" not in text
    assert len(text) < 5000


def test_a_comment_is_found_again_by_its_marker() -> None:
    one, same, other = gate_report("pass"), gate_report("fail"), gate_report("pass")
    other.provenance.package = "out/tiny-int8"

    assert comment(one).splitlines()[0] == comment_marker(one) == comment_marker(same)
    assert comment_marker(one) != comment_marker(other)
    assert re.fullmatch(r"<!-- [\w ]+ -->", comment_marker(nasty_report()))


def test_nobody_is_called_and_nothing_is_markup() -> None:
    text = step_summary(nasty_report())
    outside_fences = re.sub(r"(?ms)^(`{3,})text$.*?^\1$", "", text)

    assert not re.search(r"@\w", re.sub(r"<code>.*?</code>", "", outside_fences))
    assert "<tag" not in outside_fences
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text)
    rows = [line for line in outside_fences.splitlines() if line.startswith(("| ❌", "| ❔", "| ✅"))]
    assert len(rows) == 9 * len(NASTY)
    assert {row.count("|") for row in rows} == {6}


def test_a_generation_stays_in_its_fence() -> None:
    different = Generation(
        prompt="def f(",
        reference="x):\n```\nreturn",
        answer="x):\n````\nraise",
        reference_tokens=3,
        answer_tokens=3,
        agreed=1,
        agreed_text=4,
    )
    text = step_summary(gate_report("pass", generations=[different]))

    assert "Generated texts that differ: 1 of 1" in text
    assert "`````text\n[prompt]\ndef f(\n[both]\nx):\n" in text
