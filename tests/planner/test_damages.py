"""What bits usually cost: the file is what the benchmarks found, and intervals are wide."""

from __future__ import annotations

import json
import sys

import pytest

from graphopt.planner import typical
from graphopt.planner._damages import together
from graphopt.planner._recipes import Storing
from tests._cache import ROOT


def test_the_file_is_what_the_results_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from _results import RESULTS  # type: ignore[import-not-found]
    from _typical import typical as rendered  # type: ignore[import-not-found]

    ((path, text),) = rendered(RESULTS).items()
    assert path.read_text(encoding="utf-8") == text
    assert json.loads(text)["recipes"]
    sys.modules.pop("_typical", None)


def test_fewer_bits_cost_more_and_other_models_lie_within() -> None:
    known = typical()
    storing = Storing("int4")
    found = [known.planned(storing, bits) for bits in (2.5, 3.0, 4.25, 5.0, 8.0)]
    values = [one.value for one in found if one is not None]
    assert len(values) == 5
    assert values == sorted(values, reverse=True)
    int4, *others = (known.recipe(Storing(name)) for name in ("int4", "int4-kv8", "int8"))
    assert int4 is not None
    assert all(int4.low < kl < int4.high for kl in known.recipes["int4"].values())
    more, less = (one.value for one in others if one is not None)
    assert more > int4.value > less


def test_plans_of_a_recipe_that_rounds_otherwise_are_not_told() -> None:
    assert typical().planned(Storing("int8"), 5.0) is None


def test_a_recipe_that_was_not_measured_is_within_its_own_bound() -> None:
    storing = Storing("fp16")
    kl = typical().recipe(storing)
    assert kl is not None
    assert kl.high == storing.recipe.budget.kl_mean
    assert kl.value < kl.high
    lossless = typical().recipe(Storing("lossless"))
    assert lossless is not None
    assert lossless.high == 0


def test_measured_damages_are_corrected_by_what_packages_had() -> None:
    assert together(0.01, 1.2).value == pytest.approx(0.012)
    usual = together(0.01, None)
    assert usual.value > 0.01
    assert usual.high / usual.value > together(0.01, 1.2).high / 0.012


def test_a_plan_far_from_the_package_that_was_measured_is_less_certain() -> None:
    near, far = together(0.01, 1.2, 0.012), together(0.001, 1.2, 0.012)
    assert near == together(0.01, 1.2)
    assert far.value == pytest.approx(0.0012)
    assert far.high / far.value > near.high / near.value
    assert together(1e-12, 1.2, 0.012).low >= 0.0
