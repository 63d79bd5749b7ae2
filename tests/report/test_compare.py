"""Packages side by side: rows of what all have, which is best, and what each pass did in each."""

from __future__ import annotations

import pytest

from graphopt.report import ComparedRow, Comparison, compare_reports
from tests.report._samples import gate_report, report, step, three_reports


@pytest.fixture
def compared() -> Comparison:
    return compare_reports(three_reports(), [gate_report(), None, None])


def cells(comparison: Comparison, key: str) -> tuple[str, ...]:
    row = comparison.row(key)
    assert row is not None, key
    return row.cells


def test_sizes_and_nodes_are_rows_with_a_best(compared: Comparison) -> None:
    weights = compared.row("weight_bytes")

    assert compared.names == ("a-int4", "a-int8", "a-plain")
    assert cells(compared, "weight_bytes") == ("900 kB", "1.7 MB", "4 MB")
    assert weights is not None
    assert weights.best == 0
    assert cells(compared, "nodes") == ("66", "66", "60")


def test_what_is_alike_for_all_has_no_row_of_its_own(compared: Comparison) -> None:
    assert compared.row("source") is None
    assert compared.row("target") is None

    other = compare_reports([report(), report(source="another")])
    assert cells(other, "source") == ("a-model", "another")


def test_the_worst_of_each_metric_is_told_with_its_bound(compared: Comparison) -> None:
    assert cells(compared, "closing:logits:kl_mean") == ("0.056 of 0.08", "0.056 of 0.08", "")
    assert cells(compared, "closing:logits:scaled_difference") == ("", "", "2e-05 of 0.001")
    assert cells(compared, "share") == ("70 %", "70 %", "2 %")


def test_what_a_gate_measured_is_beside_its_package(compared: Comparison) -> None:
    assert cells(compared, "gate:tpot:") == ("12.1 ms, fail", "", "")
    row = compared.row("gate:kl_mean:")
    assert row is not None
    assert (row.low[0], row.high[0], row.low[1]) == (pytest.approx(0.012), pytest.approx(0.016), None)


@pytest.mark.parametrize(
    ("values", "better", "best"),
    [
        ((1.0, 2.0), "smaller", 0),
        ((1.0, 2.0), "larger", 1),
        ((1.0, 1.0), "smaller", None),
        ((1.0, None), "smaller", None),
        ((1.0, 2.0), "", None),
    ],
)
def test_the_best_is_one_that_beats_all_others(
    values: tuple[float | None, ...], better: str, best: int | None
) -> None:
    assert ComparedRow("k", "l", ("", ""), values, better).best == best  # type: ignore[arg-type]


def test_steps_are_told_for_each_package(compared: Comparison) -> None:
    steps = {one.title: one.cells for one in compared.steps}

    assert steps["fold"] == ("-40 nodes", "-40 nodes", "-40 nodes")
    assert steps["quantize"] == ("-3.1 MB", "-3.1 MB", "")
    assert "upgrade" not in steps


def test_a_step_that_did_not_run_or_found_nothing_says_so() -> None:
    idle, skipped = step("fold", (9, 9), (4, 4)), step("fold", (9, 9), (4, 4), skipped="it needs opset 23")
    made = [report(passes=[one]) for one in (step("fold", (9, 8), (4, 4)), idle, skipped)]

    (found,) = compare_reports(made).steps
    assert found.cells == ("-1 nodes", "nothing to do", "did not run: it needs opset 23")
