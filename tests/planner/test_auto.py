"""A plan becomes a package that keeps the budget, and the lock keeps the plan."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import graphopt
from graphopt import BadInput, CheckFailed
from graphopt.cli import main
from graphopt.cost import history_of
from graphopt.machine import keep_profile
from graphopt.package import LOCK
from graphopt.planner import AUTO, made_by_plan
from graphopt.planner._auto import _lengths
from graphopt.plugins import registry
from graphopt.recipes import OptimizeOptions
from tests.planner._machines import machine

BUDGET = ("kl_mean=0.0005", "ttft=30s", "package_bytes=12MB")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, as if it had been measured."""
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "cache"))
    made = registry.default_target()()
    keep_profile(
        machine().model_copy(update={"identity": made.fingerprint(), "kind": "measured", "target": made.name})
    )


@pytest.mark.usefixtures("here")
def test_a_plan_is_a_recipe_that_keeps_its_budget_and_auto_is_both(tmp_path: Path, begun: Path) -> None:
    shutil.copytree(begun, tmp_path / "cache", dirs_exist_ok=True)
    recipe, out = tmp_path / "planned.toml", tmp_path / "package"
    asked = [word for text in BUDGET for word in ("--budget", text)]
    with pytest.raises(SystemExit) as ended:
        main(["plan", "tiny-coder", *asked, "--recipe", "int8", "-o", str(recipe), "-q"])
    assert ended.value.code == 0
    package = graphopt.optimize("tiny-coder", out, recipe=str(recipe), verify="off")
    kl = next(one for one in package.report().closing.metrics if one.metric == "kl_mean")
    assert kl.bound == 0.0005
    assert kl.value <= 0.0005

    options = OptimizeOptions(budget=BUDGET, verify="off")
    planned = made_by_plan("tiny-coder", tmp_path / "auto", options, recipes=("int8",))
    assert all(one.keeps for one in planned.checked)
    assert {"kl_mean", "ttft", "tpot", "package_bytes"} <= {one.metric for one in planned.checked}
    lock = json.loads((planned.package.path / LOCK).read_text(encoding="utf-8"))
    assert lock["recipe"] == AUTO
    assert lock["decisions"]["planned"]["budget"] == list(BUDGET)
    assert history_of(planned.choice.request.profiles[0]).metrics["tpot"].count == 1

    again = graphopt.optimize("tiny-coder", tmp_path / "again", locked=planned.package.path)
    repeated = json.loads((again.path / LOCK).read_text(encoding="utf-8"))
    assert repeated["outputs"] == lock["outputs"]
    assert repeated["decisions"]["planned"] == lock["decisions"]["planned"]


@pytest.mark.usefixtures("here")
def test_nothing_is_made_where_no_plan_keeps_the_budget(tmp_path: Path) -> None:
    options = OptimizeOptions(budget=("tpot=1us",))
    with pytest.raises(CheckFailed, match="no plan keeps tpot=1us"):
        made_by_plan("tiny-coder", tmp_path / "auto", options)
    assert not (tmp_path / "auto").exists()


def test_a_machine_that_was_not_measured_is_not_planned_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BadInput, match="nothing was with 'cpu'"):
        made_by_plan("tiny-coder", tmp_path / "auto", OptimizeOptions())


def test_a_check_that_fails_leaves_what_was_there(tmp_path: Path, begun: Path, own_cache: Path) -> None:
    shutil.copytree(begun, own_cache, dirs_exist_ok=True)

    def refuse(folder: Path) -> None:
        assert (folder / LOCK).is_file()
        raise CheckFailed("no")

    with pytest.raises(CheckFailed, match="no"):
        graphopt.optimize(
            "tiny-coder", tmp_path / "out", recipe="lossless", verify="off", validate=False, check=refuse
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("positions", [1 << 17, 320, 319, 64, 2])
def test_a_model_of_few_positions_is_planned_for_within_them(positions: int) -> None:
    prompt, new = _lengths(positions)
    assert min(prompt, new) >= 1
    assert prompt + new == min(320, positions)
