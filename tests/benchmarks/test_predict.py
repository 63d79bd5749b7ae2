"""How far off predictions are: what is left out of a profile, and what tables say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from graphopt.machine import Interval
from tests.cost._machine import graph, model, product, profile

Script = Callable[[str], ModuleType]


def about(value: float) -> Interval:
    return Interval(value=value, low=0.9 * value, high=1.1 * value)


def told(script: Script, predicted: float, measured: float, **more: Any) -> Any:
    point = {
        "shape": "s",
        "recipe": "int4",
        "batch": 1,
        "prompt": 256,
        "threads": 1,
        "bandwidth": 20e9,
    } | more
    intervals = [about(predicted)] * 3
    return script("_predicting").Told(point, "tpot", *intervals, measured)


def test_sizes_of_a_shape_are_left_out_of_the_profile(script: Script) -> None:
    left = script("_predicting").without(profile(), [graph(product("w", 1024, 4096)), model(1, 1024)])
    assert (1024, 4096) in {(p.k, p.n) for p in profile().products}
    assert {(p.k, p.n) for p in left.products} == {(256, 256), (1024, 1024), (4096, 4096)}
    assert not left.attention


def test_the_summary_counts_errors_and_intervals(script: Script) -> None:
    found = [told(script, 1.0, measured) for measured in (1.0, 1.05, 2.0)]
    cheap = [
        ({"kind": "product", "seconds": 1.0}, about(1.02)),
        ({"kind": "attention", "seconds": 1.0}, about(3.0)),
    ]
    rows = {row["what"]: row for row in script("_predict_tables").summary(found, cheap).rows}
    assert rows["tpot"]["median_error_percent"] == pytest.approx(100 * (1 - 1 / 1.05), rel=1e-3)
    assert rows["tpot"]["coverage_percent"] == pytest.approx(200 / 3, rel=1e-3)
    assert rows["cheap points: attentions"]["coverage_percent"] == 0
    assert rows["all points"]["points"] == 5


def test_plans_are_ranked(script: Script) -> None:
    pairs = ((1.0, 1.1), (2.0, 1.0), (3.0, 3.0), (4.0, 5.0))
    found = [told(script, p, m, recipe=f"r{p}", threads=1 + i % 2) for i, (p, m) in enumerate(pairs)]
    row = script("_predict_tables").ranking(found, "s").row("plans")
    assert row["plans"] == 4
    assert row["rank_correlation"] == pytest.approx(0.8)
    assert row["place_of_the_fastest"] == 2


def test_what_was_measured_stays_when_a_run_is_killed(script: Script, tmp_path: Path) -> None:
    predict, path = script("predict"), tmp_path / "points.jsonl"
    predict.add(path, ['{"a": 1}'], shape="s")
    with path.open("a") as file:
        file.write('{"a": 2')
    assert predict.kept(path) == [{"shape": "s", "a": 1}]


def test_rounds_of_a_point_are_one_point(script: Script) -> None:
    predict = script("predict")
    same = {"shape": "s", "recipe": "int4", "threads": 1, "batch": 1, "prompt": 32, "made": "x"}
    rounds = [same | dict.fromkeys(predict.MEASURED, value) for value in (1.0, 3.0)]
    other = same | {"threads": 2} | dict.fromkeys(predict.MEASURED, 5.0)
    assert [(one["threads"], one["tpot"]) for one in predict.means([*rounds, other])] == [(1, 2.0), (2, 5.0)]
