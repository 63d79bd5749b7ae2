"""What --budget does to a recipe."""

from __future__ import annotations

import pytest

from graphopt import BadInput
from graphopt.build import chosen_target, configured
from graphopt.cli import main


def test_it_reaches_the_pass_that_plans_and_bounds_the_damage() -> None:
    target = chosen_target(None)
    plain = configured("int4", (), target).budget
    recipe = configured("int4", (), target, ["kl_mean=0.02", "bpw=4"])
    (step,) = (step for step in recipe.steps if "budget" in step.options)
    assert step.options["budget"] == "kl_mean=0.02,bpw=4"
    assert recipe.budget.kl_mean == 0.02
    assert plain.kl_mean is not None
    assert plain.kl_p99 is not None
    assert recipe.budget.kl_p99 == pytest.approx(1.5 * plain.kl_p99 * 0.02 / plain.kl_mean)
    assert configured("int4", (), target, ["bpw=4"]).budget == plain


def test_it_plans_for_the_weights_and_the_rounding_that_follow() -> None:
    settings = ("quantize-weights.exclude=*head*", "quantize-weights.sweeps=1", "plan-bits.sweeps=3")
    recipe = configured("int4", settings, chosen_target(None), ["bpw=4"])
    (step,) = (step for step in recipe.steps if step.name == "plan-bits")
    assert step.options["rounding"] == "gptq"
    assert step.options["exclude"] == "*head*"
    assert step.options["sweeps"] == "3"
    assert "block_size" not in step.options


def test_a_recipe_that_plans_nothing_takes_no_budget() -> None:
    with pytest.raises(BadInput, match="has no pass that plans"):
        configured("lossless", (), chosen_target(None), ["bpw=4"])


@pytest.mark.parametrize("recipe", [[], ["--recipe", "int4"]])
def test_a_budget_that_says_nothing_is_bad_usage(
    recipe: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["optimize", "tiny-coder", "--budget", "kl_maen=0.02", *recipe])
    assert ended.value.code == 2
    assert "Did you mean 'kl_mean'" in capsys.readouterr().err
