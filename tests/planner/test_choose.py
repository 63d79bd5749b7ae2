"""Which plan is chosen, and what is said where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphopt import BadInput, CheckFailed
from graphopt.cost import SHAPES, decoder_work
from graphopt.plan import parse_bounds
from graphopt.planner import BOUNDED, Choice, Hosting, Request, choice_json, choose, gains, hosted
from tests.planner._machines import machine

RECIPES = ("lossless", "fp16", "int8", "int4", "int4-fast", "int4-kv8", "kept")


def asked(*budget: str, **changes: object) -> Request:
    made = Request(
        "llama-3.2-1b",
        decoder_work(SHAPES["llama-3.2-1b"]),
        (machine(),),
        RECIPES,
        parse_bounds(budget, BOUNDED),
    )
    return replace(made, **changes)


def test_without_budgets_the_fastest_recipe_is_chosen_with_all_threads() -> None:
    best = choose(asked()).best
    assert best.candidate.threads == 2
    assert best.candidate.recipe in ("int4", "int4-kv8")
    metrics = best.prediction.metrics
    assert 0.9 < metrics["tpot"].value / (metrics["weight_bytes"].value / 40e9) < 1.5


def test_a_bound_of_damage_is_kept_and_the_recipe_is_asked_to_keep_it() -> None:
    loose, strict = (choose(asked(f"kl_mean={bound}")).best for bound in (0.03, 0.001))
    assert loose.prediction.metrics["kl_mean"].value <= 0.03
    assert strict.prediction.metrics["kl_mean"].value <= 0.001
    assert strict.prediction.metrics["tpot"].value > loose.prediction.metrics["tpot"].value
    assert "kl_mean=0.001" in strict.unsure


def test_a_bound_of_size_is_kept_with_the_least_damage() -> None:
    choice = choose(asked("package_bytes=800MB"))
    best = choice.best
    assert best.prediction.metrics["package_bytes"].value <= 8e8
    assert all(
        other.prediction.metrics["kl_mean"].value >= best.prediction.metrics["kl_mean"].value * 0.99
        for other in choice.outlooks
        if other.keeps
    )
    assert choice.binding is not None
    assert choice.binding.startswith("package_bytes=800MB: without it")


def test_drafts_are_chosen_where_only_the_time_of_a_token_is_in_the_way() -> None:
    plain = choose(asked("kl_mean=0.001", drafts=True)).best
    assert not plain.candidate.drafts
    seconds = plain.prediction.metrics["tpot"]
    short = f"tpot={0.9 * seconds.value}s"
    drafted = choose(asked("kl_mean=0.001", short, drafts=True)).best
    assert drafted.candidate.drafts
    assert drafted.prediction.metrics["tpot"].value <= 0.9 * seconds.value
    assert drafted.prediction.metrics["tpot"].low < seconds.low / 1.3
    assert short in drafted.unsure
    assert any("run --speculate" in note for note in drafted.notes)
    with pytest.raises(CheckFailed):
        _ = choose(asked("kl_mean=0.001", short)).best
    longer = choose(asked("kl_mean=0.001", short, drafts=True, batches=(8,)))
    assert not any(one.candidate.drafts for one in longer.outlooks)


def test_what_drafts_bring_is_not_taken_for_a_gain_of_passes() -> None:
    request = asked("kl_mean=0.001", drafts=True)
    plain = choose(request).best
    short = f"tpot={0.9 * plain.prediction.metrics['tpot'].value}s"
    drafted = next(
        one for one in choose(asked("kl_mean=0.001", short, drafts=True)).outlooks if one.candidate.drafts
    )
    undrafted = replace(drafted, candidate=replace(drafted.candidate, drafts=False))
    found, plainly = (
        {gain.part: gain.times.get("tpot") for gain in gains(request, one)} for one in (drafted, undrafted)
    )
    assert found["drafts (run --speculate)"] == plainly["drafts (run --speculate)"]
    passes = found.keys() - {"drafts (run --speculate)"}
    assert passes
    assert all(plainly[part] > found[part] for part in passes)


def test_no_plan_is_said_with_the_budget_in_the_way_and_the_nearest() -> None:
    with pytest.raises(CheckFailed, match="no plan keeps tpot=1ms") as refused:
        _ = choose(asked("tpot=1ms")).best
    assert "The nearest is" in (refused.value.hint or "")
    assert "tpot" in (refused.value.hint or "")


def test_of_several_budgets_the_one_that_no_plan_keeps_is_named() -> None:
    with pytest.raises(CheckFailed, match=r"no plan keeps bpw=2\n") as refused:
        _ = choose(asked("kl_mean=0.01", "bpw=2")).best
    assert "kl_mean 0.0" in (refused.value.hint or "")


def test_budgets_that_only_together_cannot_be_kept_contradict_each_other() -> None:
    with pytest.raises(CheckFailed, match=r"kl_mean=0\.0005 and package_bytes=800MB contradict"):
        _ = choose(asked("kl_mean=0.0005", "package_bytes=800MB")).best


def test_a_model_that_does_not_fit_into_memory_is_refused_in_words() -> None:
    choice = choose(asked(profiles=(machine(memory=3e8),)))
    with pytest.raises(CheckFailed, match="memory of box"):
        _ = choice.best
    assert choice_json(choice)["chosen"] is None


def test_dollars_need_a_price() -> None:
    unpriced = (machine(price=None),)
    with pytest.raises(BadInput, match="needs to know what box costs an hour"):
        asked("usd_per_mtok=1", profiles=unpriced)
    with pytest.raises(BadInput, match="--minimize usd_per_mtok needs"):
        asked(profiles=unpriced, minimize="usd_per_mtok")
    priced = asked("usd_per_mtok=5", profiles=unpriced, hosting=Hosting(price=1.0))
    assert choose(priced).best.prediction.metrics["usd_per_mtok"].value <= 5


def test_what_nothing_can_be_made_small_of_is_said_with_the_nearest_name() -> None:
    with pytest.raises(BadInput, match="nothing that can be made small") as refused:
        asked(minimize="tpott")
    assert "'tpot'" in (refused.value.hint or "")


def test_nodes_of_unknown_cost_are_named() -> None:
    work = replace(asked().work, unknown=("layer/Loop_3",))
    for refuses in (choose, hosted):
        with pytest.raises(BadInput, match="layer/Loop_3"):
            refuses(asked(work=work))


def test_the_pareto_list_has_the_chosen_plan_first_and_nothing_that_another_beats() -> None:
    choice: Choice = choose(asked("kl_mean=0.02"))
    points = choice.pareto()
    assert points[0].outlook is choice.best
    assert points[0].reason == "chosen"
    for one in points:
        for other in points:
            worse = [
                other.outlook.prediction.metrics[key].value > one.outlook.prediction.metrics[key].value * 1.01
                for key in ("tpot", "ttft", "package_bytes", "kl_mean", "usd_per_mtok")
            ]
            assert one is other or any(worse) or not all(worse)
    assert len({point.outlook.candidate.recipe for point in points}) > 1


def test_each_pass_that_stores_weights_otherwise_says_what_it_gains() -> None:
    request = asked(recipes=("int4-kv8",))
    found = {one.part: one.times for one in gains(request, choose(request).best)}
    assert found["quantize-weights"]["package_bytes"] > 5
    assert found["quantize-weights"]["tpot"] > 4
    assert "drafts (run --speculate)" in found


def test_experts_keep_the_form_of_their_pass_in_all_plans() -> None:
    request = asked(
        "kl_mean=0.1", work=decoder_work(SHAPES["qwen3-30b-a3b"]), recipes=("fp16", "int8", "int4")
    )
    choice = choose(request)
    forms = {
        (one.candidate.recipe, form)
        for one in choice.outlooks
        for name, form in one.candidate.forms.items()
        if name.endswith("gate_up_proj/experts")
    }
    assert forms == {("fp16", "16"), ("int8", "8/128"), ("int4", "4/128")}
    assert not any(one.candidate.budget or one.candidate.drafts for one in choice.outlooks)
    found = {one.part: one.times for one in gains(request, choice.best)}
    assert found["quantize-experts"]["package_bytes"] > 5
    assert "drafts (run --speculate)" not in found


def test_a_pass_that_stores_nothing_of_a_model_gains_nothing() -> None:
    request = asked("bpw=3.5", recipes=("int4",))
    assert "quantize-experts" not in {one.part for one in gains(request, choose(request).best)}


def test_a_budget_that_a_profile_says_nothing_of_is_refused() -> None:
    with pytest.raises(BadInput, match="load_time=1s: nothing is known of load on box"):
        choose(asked("load_time=1s"))
