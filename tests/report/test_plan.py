"""What is said of a plan, in the terminal and on the page."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from graphopt.plan import Choice, Plan, Table, Unit, allocate, corrected, parse_bounds
from graphopt.report import Report, print_report, write_page
from tests.report._samples import report
from tests.report.test_page import Page


def plan(*, twice: bool = False) -> Plan:
    choices = [Choice("2/64", 0.02, 250), Choice("4/128z", 0.002, 500), Choice("8/128", 0.00001, 1000)]
    units = [Unit((f"w{n}", f"<v{n}>", "x", "y"), 1000, tuple(choices)) for n in range(50)]
    made = allocate(
        Table(units, fixed={"weight_bytes": 0.0}),
        parse_bounds(["kl_mean=0.2", "weight_bytes=40kB"]),
        step="p",
    )
    measured = {"kl_mean": 1.25 * made.predicted["kl_mean"], "weight_bytes": 25_000.0}
    if twice:
        made = corrected(made, measured)
    return made.model_copy(update={"measured": measured})


def printed(shown: Report) -> str:
    stream = io.StringIO()
    print_report(shown, Console(file=stream, width=140))
    return stream.getvalue()


def test_the_terminal_says_what_came_of_it_and_why() -> None:
    made = plan()
    text = printed(report(plans={"model": made}))
    assert "plan within kl_mean=0.2, weight_bytes=40kB" in text
    (line,) = (line for line in text.splitlines() if "mean KL divergence" in line and "%" in line)
    assert "0.2" in line
    assert "+25.0 %" in line
    assert "w0, <v0>, x and 1 more" in text
    assert "10 more units: see the report" in text
    assert "would save" in text
    assert f"{made.pareto[0].kl_mean:.3g}" in text
    assert "planned twice" not in text


def test_a_plan_that_was_corrected_says_by_what() -> None:
    text = printed(report(plans={"model": plan(twice=True)}))
    assert "planned twice: the package of the first plan had mean KL divergence 0.2" in text


@pytest.mark.parametrize("twice", [False, True])
def test_the_page_has_the_same(tmp_path: Path, twice: bool) -> None:
    path = tmp_path / "report.html"
    write_page(path, title="a plan", reports=[report(plans={"model": plan(twice=twice)})])
    text = path.read_text()
    assert ">Plan</h2>" in text
    assert "Each of 50 units, and why" in text
    assert "w49, &lt;v49&gt;, x and 1 more" in text
    assert "+25.0 %" in text or twice
    assert ("planned twice" in text) == twice
    (chart,) = (one for one in Page(path).data.values() if one["kind"] == "pareto")
    assert len(chart["data"]["points"]) == len(plan().pareto)


def test_report_json_has_it_whole(tmp_path: Path) -> None:
    made = plan(twice=True)
    report(plans={"model": made}).write(tmp_path / "report.json")
    assert Report.model_validate_json((tmp_path / "report.json").read_text()).plans == {"model": made}
