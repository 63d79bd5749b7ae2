"""What is said on the page of what a machine makes of a package, and of what passes moved."""

from __future__ import annotations

from pathlib import Path

from graphopt.machine import Interval
from graphopt.report import BoundReport, HistoryReport, PredictionReport, Report, write_page
from tests.report._samples import HOSTILE, report, step


def about(value: float) -> Interval:
    return Interval(value=value, low=0.9 * value, high=1.1 * value)


def bound(operators: str, seconds: float, size: float, flops: float, by: str, floor: float) -> BoundReport:
    return BoundReport(
        operators=operators, seconds=about(seconds), bytes=size, flops=flops, by=by, floor=floor
    )


def prediction(**changes: object) -> PredictionReport:
    values: dict[str, object] = {
        "profile": "this machine, measured 2026-01-01",
        "prompt": 256,
        "new": 64,
        "threads": 2,
        "metrics": {"ttft": about(0.4), "tpot": about(0.02), "peak_memory": about(8.2e8)},
        "step": [
            bound("MatMulNBits 4/128", 0.011, 6.7e8, 2.5e9, "memory", 0.0099),
            bound("Norm", 0.001, 1e6, 0.0, "memory", 0.0001),
            bound("Shape", 1e-6, 0.0, 0.0, "memory", 0.0),
        ],
        "reading": [bound("MatMulNBits 4/128", 0.4, 6.7e8, 6e11, "compute", 0.3)],
        "history": [HistoryReport(metric="tpot", count=12, median_error=0.031, coverage=0.917)],
        "widened": ["Frobnicate was not measured"],
    }
    return PredictionReport.model_validate(values | changes)


def page(shown: Report, folder: Path) -> str:
    write_page(folder / "report.html", title="a page", reports=[shown])
    return (folder / "report.html").read_text()


def test_the_page_has_each_class_beside_its_bound(tmp_path: Path) -> None:
    text = page(report(prediction=prediction()), tmp_path)
    assert "20 ms" in text
    assert "18 to 22 ms" in text
    row = text[text.index('<th scope="row">MatMulNBits 4/128') :]
    row = row[: row.index("</tr>")]
    assert "670 MB" in row
    assert "2.5 GFLOP" in row
    assert "reading memory" in row
    assert "90 %" in row
    assert "computing" in text
    assert "Shape</th>" not in text
    assert "time per output token, p50: 3.1 % off in the median of 12, 92 % within their interval" in text
    assert "Less sure: Frobnicate was not measured" in text


def test_nodes_without_times_are_named(tmp_path: Path) -> None:
    shown = prediction(metrics={}, step=[], reading=[], unknown=["/scan"])
    assert "nothing is known of what /scan costs" in page(report(prediction=shown), tmp_path)


def test_names_of_nodes_do_nothing_to_the_page(tmp_path: Path) -> None:
    shown = prediction(unknown=[HOSTILE], widened=[HOSTILE], profile=HOSTILE)
    assert HOSTILE not in page(report(prediction=shown), tmp_path)


def test_a_machine_without_a_profile_has_no_such_section(tmp_path: Path) -> None:
    assert "What this machine makes of it" not in page(report(), tmp_path)


def test_what_a_pass_moved_is_in_its_row(tmp_path: Path) -> None:
    moved = {
        "reads_before": 400_000_000,
        "reads_after": 100_000_000,
        "flops_before": 10**9,
        "flops_after": 10**9,
    }
    shown = report(passes=[step("quantize", (10, 10), (400_000_000, 100_000_000), **moved)])
    text = page(shown, tmp_path)
    assert "a token reads" in text
    assert "400 → 100 MB" in text
    assert "1 GFLOP" in text
    assert "a token reads" not in page(report(), tmp_path)


def test_it_comes_back_from_the_file(tmp_path: Path) -> None:
    shown = report(prediction=prediction())
    shown.write(tmp_path / "report.json")
    assert Report.model_validate_json((tmp_path / "report.json").read_text()).prediction == prediction()
