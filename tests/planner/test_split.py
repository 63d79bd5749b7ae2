"""A model that one device does not hold is split over as few as hold it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphopt import CheckFailed
from graphopt.cost import SHAPES, Situation, decoder_work, predict
from graphopt.machine import Interval, Profile, Tier
from graphopt.planner import choose
from graphopt.planner._split import held_bytes, smallest_split
from tests.planner._machines import machine
from tests.planner.test_choose import asked

WORK = decoder_work(SHAPES["llama-3.2-1b"])
SITUATION = Situation(256, 64)


def device(memory: float, link: float = 1e9) -> Profile:
    """One with memory of its own, and a link to others."""
    box = machine(memory=memory, gb_s=1000)
    read = {0: box.tiers[0].read[2]}
    return box.model_copy(
        update={
            "tiers": (Tier(name="HBM", bytes=int(memory), read=read),),
            "peaks": {kind: {0: rates[2]} for kind, rates in box.peaks.items()},
            "links": {"link": Interval(value=2 * link, low=link, high=3 * link)},
        }
    )


def test_as_few_devices_as_hold_it() -> None:
    whole = held_bytes(WORK, SITUATION, 1)
    assert smallest_split(WORK, device(whole), SITUATION)[0] == 1
    assert smallest_split(WORK, device(whole - 1), SITUATION)[0] == 2
    assert smallest_split(WORK, device(whole / 3), SITUATION)[0] == 4


def test_a_token_goes_over_every_link_and_all_devices_write() -> None:
    one = device(held_bytes(WORK, SITUATION, 2))
    devices, found = smallest_split(WORK, one, SITUATION)
    alone = predict(WORK, one, SITUATION)
    assert devices == 2
    over = found.metrics["tpot"].value - alone.metrics["tpot"].value
    assert over == pytest.approx(4 * 2048 / 1e9)
    rate = found.metrics["batch_tokens_per_second"].value
    assert rate == pytest.approx(2 / found.metrics["tpot"].value)


def test_machines_without_a_link_are_not_split_over() -> None:
    assert smallest_split(WORK, machine(memory=1e9), SITUATION)[0] == 1
    assert smallest_split(WORK, device(1e9).model_copy(update={"links": {}}), SITUATION)[0] == 1


def test_two_devices_cost_a_token_what_one_that_holds_all_would() -> None:
    small = held_bytes(WORK, SITUATION, 2)
    request = asked(recipes=("lossless",), profiles=(device(small, link=1e15),))
    split = choose(request).best
    whole = choose(replace(request, profiles=(device(1e12),))).best
    assert (split.candidate.devices, whole.candidate.devices) == (2, 1)
    prices = [one.prediction.metrics["usd_per_mtok"].value for one in (split, whole)]
    assert prices[0] == pytest.approx(prices[1])


def test_what_no_sixteen_hold_is_refused_in_words() -> None:
    request = asked(recipes=("lossless",), profiles=(device(1e8),))
    with pytest.raises(CheckFailed, match=r"on each of 16, there are 100 MB"):
        _ = choose(request).best
