"""Damages that bits are shared out by: measured in shares on two nodes, and what one process measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphopt import BadInput
from graphopt.build import chosen_target, configured
from graphopt.cache import Store
from graphopt.io import cache_folder
from graphopt.sweep import Engine, Measure, Task, Trial, damages, measured
from graphopt.sweep._damages import decided
from graphopt.sweep._trial import built
from tests.passes.test_plan_bits import model

NOBODY = "127.0.0.1:1"
RECIPE = """\
description = "Bits within a budget."
extends = "lossless"

[budget]
kl_mean = 9

[[group.compress]]
name = "plan-bits"
budget = "BUDGET"
forms = "2/32,4/32,4/64,8/32"
smallest = 0

[[group.compress]]
name = "quantize-weights"
smallest = 0
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def trial(tmp_path: Path) -> Callable[[str], Trial]:
    """A trial of a small model within a budget."""
    made = model()
    ir.save(made, tmp_path / "model.onnx")
    calls = np.random.default_rng(0).integers(0, 96, (4, 1, 48))
    (tmp_path / "calls").mkdir()
    for number, ids in enumerate(calls):
        np.savez(tmp_path / "calls" / f"{number}.npz", ids=ids)

    def within(budget: str) -> Trial:
        file = tmp_path / "bits.toml"
        file.write_text(RECIPE.replace("BUDGET", budget))
        recipe = configured(str(file), (), chosen_target(None))
        return Trial(str(tmp_path / "model.onnx"), recipe, calibration=str(tmp_path / "calls"))

    return within


def test_damages_in_shares_are_those_of_one_process(
    cluster: str,
    another_node: Callable[[], None],
    trial: Callable[[str], Trial],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks: list[Task] = []
    submit = Engine.submit

    def noted(engine: Engine, task: Task) -> None:
        tasks.append(task)
        submit(engine, task)

    monkeypatch.setattr(Engine, "submit", noted)
    plan, options = damages(trial("bpw=5"), Measure(()), ray=cluster)
    assert options["budget"] == "bpw=32"
    assert ["\npart = " in task.arguments["package"]["steps"] for task in tasks] == [False, True, True, False]
    assert sum(entry.step == "within plan-bits" for entry in Store(cache_folder(), 1 << 30).entries()) == 8

    again, _ = damages(trial("kl_mean=0.5"), Measure(()), ray=NOBODY)
    assert again == plan

    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "alone"))
    one = tasks[-1].arguments["package"]
    assert decided(package=one)["plan"] == plan


def test_a_package_is_made_of_damages_that_were_measured_in_shares(
    cluster: str,
    another_node: Callable[[], None],
    trial: Callable[[str], Trial],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = [trial("bpw=4.5"), trial("bpw=6")]
    small, large = measured(asked, Measure(("package_bytes", "weight_bytes")), ray=cluster)
    assert (small.error, large.error) == (None, None)
    assert small.metrics["weight_bytes"].value < large.metrics["weight_bytes"].value

    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "alone"))
    alone = built(package=asked[0].arguments(), metrics=["weight_bytes"])
    assert alone["weight_bytes"][0] == small.metrics["weight_bytes"].value


def test_a_recipe_that_shares_out_nothing_has_no_damages(trial: Callable[[str], Trial]) -> None:
    with pytest.raises(BadInput, match="no pass that shares out bits"):
        damages(Trial("tiny-coder", configured("fp16", (), chosen_target(None))), Measure(()), ray=NOBODY)
