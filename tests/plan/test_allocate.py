"""From tables made by hand to plans."""

from __future__ import annotations

import re

import pytest

from graphopt import BadInput, CheckFailed
from graphopt.plan import (
    Choice,
    Plan,
    Table,
    Together,
    Unit,
    allocate,
    corrected,
    keeps,
    pareto,
    parse_bounds,
)


def unit(name: str, entries: int, harm: float, *, seconds: bool = False) -> Unit:
    """A unit whose damage falls by 16 from 2 to 4 bits and by 256 from 4 to 8."""
    forms = {"2/128": (2.25, 16.0), "4/128": (4.25, 1.0), "8/128": (8.25, 1 / 256)}
    return Unit(
        (name,),
        entries,
        tuple(
            Choice(form, harm * factor, int(entries * bits / 8), entries * bits * 1e-12 if seconds else None)
            for form, (bits, factor) in forms.items()
        ),
    )


TABLE = Table([unit("large", 800_000, 0.001), unit("small", 8_000, 0.01), unit("middle", 80_000, 0.002)])


def plan(*budget: str, table: Table = TABLE, **more: object) -> Plan:
    return allocate(table, parse_bounds(budget), step="plan-it", **more)  # type: ignore[arg-type]


def test_bytes_go_where_they_help_most() -> None:
    made = plan("bpw=4.4")
    assert made.forms == {"large": "4/128", "small": "8/128", "middle": "4/128"}
    assert made.predicted["bpw"] <= 4.4
    assert made.predicted["kl_mean"] == pytest.approx(0.001 + 0.01 / 256 + 0.002)


def test_a_bound_of_damage_gives_the_smallest_plan() -> None:
    made = plan("kl_mean=0.02")
    assert made.forms == {"large": "2/128", "small": "8/128", "middle": "4/128"}
    assert made.predicted["kl_mean"] <= 0.02


def test_of_two_bounds_both_are_kept() -> None:
    made = plan("kl_mean=0.02", "bpw=4.2")
    assert made.predicted["kl_mean"] <= 0.02
    assert made.predicted["bpw"] <= 4.2


def test_what_is_there_anyway_counts() -> None:
    table = Table(TABLE.units, fixed={"package_bytes": 1e6})
    assert plan("package_bytes=1472100B", table=table).predicted["package_bytes"] == 1471750
    with pytest.raises(CheckFailed, match="package_bytes=1MB cannot be met"):
        plan("package_bytes=1MB", table=table)


def test_time_is_a_bound_where_it_is_known() -> None:
    table = Table([unit("a", 800_000, 0.001, seconds=True), unit("b", 8_000, 0.01, seconds=True)])
    made = plan("tpot=0.004ms", table=Table(table.units, fixed={"tpot": 1e-6}))
    assert made.forms == {"a": "2/128", "b": "8/128"}
    assert made.predicted["tpot"] == pytest.approx(1e-6 + (800_000 * 2.25 + 8_000 * 8.25) * 1e-12)
    with pytest.raises(BadInput, match="tells no times"):
        plan("tpot=1ms")


def test_damages_that_do_not_add_are_planned_for() -> None:
    together = Together(scale=2.0, power=1.0)
    made = plan("kl_mean=0.02", table=Table(TABLE.units, together))
    assert sum(one.damage for one in made.units) <= 0.01
    assert made.predicted["kl_mean"] == pytest.approx(2 * sum(one.damage for one in made.units))


def test_a_plan_is_corrected_by_what_came_of_it() -> None:
    first = plan("kl_mean=0.02")
    measured = {"kl_mean": 2 * first.predicted["kl_mean"]}
    assert not keeps(first, measured)
    assert keeps(first, first.predicted)
    made = corrected(first, measured)
    assert made.bounds == {"kl_mean": 0.02}
    assert made.predicted["kl_mean"] <= 0.0194
    assert made.predicted["kl_mean"] == pytest.approx(2 * sum(one.damage for one in made.units))
    assert made.before is not None
    assert (made.before.predicted, made.before.measured) == (first.predicted, measured)
    assert made.predicted["bpw"] > first.predicted["bpw"]


def test_what_comes_on_top_is_corrected() -> None:
    units = [unit("a", 800_000, 0.001, seconds=True), unit("b", 8_000, 0.01, seconds=True)]
    first = plan("tpot=0.004ms", table=Table(units, fixed={"tpot": 0.0, "package_bytes": 100.0}))
    assert first.forms["a"] == "4/128"
    measured = {"tpot": first.predicted["tpot"] + 2e-6, "package_bytes": first.predicted["package_bytes"] + 7}
    made = corrected(first, measured)
    assert made.forms["a"] == "2/128"
    assert made.fixed == {"tpot": pytest.approx(2e-6), "package_bytes": pytest.approx(107)}
    with pytest.raises(CheckFailed, match=r"tpot=0\.004ms cannot be met"):
        corrected(first, {"tpot": first.predicted["tpot"] + 3e-6})


def test_the_nearest_plan_is_one() -> None:
    """What a refusal says is the nearest can be had."""
    with pytest.raises(CheckFailed) as raised:
        plan("kl_mean=0.0035", "bpw=3")
    said = re.search(r"nearest plan has bpw ([\d.]+)", str(raised.value))
    assert said is not None
    nearest = float(said[1])
    assert plan("kl_mean=0.0035", f"bpw={nearest + 0.005}").predicted["kl_mean"] <= 0.0035
    with pytest.raises(CheckFailed):
        plan("kl_mean=0.0035", f"bpw={nearest - 0.01}")


def test_every_unit_says_why() -> None:
    large, small, _ = plan("bpw=4.4").units
    assert "2/128 would save 200,000 bytes for +0.015 of KL" in large.reason
    assert "8/128 would take 400,000 bytes for -0.001 of KL" in large.reason
    assert "would take" not in small.reason


@pytest.mark.parametrize(
    ("budget", "binding", "nearest"),
    [
        (["bpw=2"], "bpw=2 cannot be met", "the nearest plan has bpw 2.25"),
        (["kl_mean=0.00001"], "kl_mean=0.00001 cannot be met", "the nearest plan has kl_mean 5.08e-05"),
        (["bpw=3", "kl_mean=0.001"], "kl_mean=0.001 cannot be met beside bpw=3", "kl_mean 0.016"),
        (["kl_mean=0.0035", "bpw=3"], "bpw=3 cannot be met beside kl_mean=0.0035", "bpw 4.29"),
    ],
)
def test_a_budget_that_cannot_be_met_names_what_is_in_the_way(
    budget: list[str], binding: str, nearest: str
) -> None:
    with pytest.raises(CheckFailed) as raised:
        plan(*budget)
    assert binding in str(raised.value)
    assert nearest in str(raised.value)
    assert "bits a weight and a predicted KL of" in str(raised.value)


def test_the_pareto_list_loses_less_the_more_it_takes() -> None:
    points = pareto(TABLE)
    assert len(points) > 3
    assert [point.bytes for point in points] == sorted(point.bytes for point in points)
    assert [point.kl_mean for point in points] == sorted((point.kl_mean for point in points), reverse=True)
    assert points[0].forms == {"2/128": 3}
    assert points[-1].forms == {"8/128": 3}


def test_a_plan_is_data() -> None:
    made = plan("bpw=4.4")
    assert Plan.model_validate(made.model_dump(mode="json")) == made


def test_what_damages_come_to_is_learned() -> None:
    totals = [0.001, 0.01, 0.1]
    learned = Together.fitted(totals, [1.3 * total**1.1 for total in totals])
    assert (learned.scale, learned.power) == (pytest.approx(1.3), pytest.approx(1.1))
    assert learned.sum_for(learned.of(0.02)) == pytest.approx(0.02)
    assert Together.fitted([0.01], [0.013]) == Together(pytest.approx(1.3), 1.0)
