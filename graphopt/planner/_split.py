"""A model on as many devices as it needs: layers one after another, on paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphopt.cost import Call, GraphWork, Prediction, Situation, predict
from graphopt.machine import Interval, Profile

__all__ = ["held_bytes", "smallest_split"]

_MOST = 16
"""Devices that a model is split over, at most: two hosts of eight."""
_STEPS = ("tpot", "tpot_p90")


def smallest_split(work: GraphWork, profile: Profile, situation: Situation) -> tuple[int, Prediction]:
    """How many of the machine the model is split over, as few as hold it, and what is expected there.

    Each device has as many of the layers as every other (a pipeline; Huang et al. 2019, GPipe), and as many
    batches are under way as there are devices, so that none waits: a token takes as long as on one device
    that holds all, and the way of the hidden state over the link; all together write so many times as many
    tokens a second. A machine without a link between devices of their own memory is not split over: 1.
    """
    predicted = predict(work, profile, situation)
    link = max((one.low for one in profile.links.values()), default=0.0)
    if not link or not any(0 in tier.read for tier in profile.tiers):
        return 1, predicted
    devices = next(
        (n for n in range(1, _MOST) if held_bytes(work, situation, n) <= profile.memory_bytes), _MOST
    )
    if devices == 1:
        return 1, predicted
    seconds = {
        "ttft": (devices - 1) * _hidden_bytes(work, situation, situation.prompt) / link,
        **dict.fromkeys(_STEPS, (devices - 1) * _hidden_bytes(work, situation, 1) / link),
    }
    metrics = {
        key: _longer(one, seconds[key]) if key in seconds else one for key, one in predicted.metrics.items()
    }
    return devices, replace(predicted, metrics=_shared(metrics, situation, devices))


def held_bytes(work: GraphWork, situation: Situation, devices: int) -> float:
    """What each of so many devices holds: its share of weights and of the caches of all batches."""
    return work.weight_bytes / devices + work.cache_bytes(situation.batch, situation.prompt + situation.new)


def _hidden_bytes(work: GraphWork, situation: Situation, rows: int) -> int:
    """Of what a layer hands to the next: as large as what is looked up for the first."""
    first = next(node for node in work.nodes if node.kind == "lookup")
    return first.made(Call(situation.batch, rows, situation.prompt))


def _longer(one: Interval, seconds: float) -> Interval:
    return Interval(value=one.value + seconds, low=one.low + seconds, high=one.high + seconds)


def _shared(metrics: Mapping[str, Interval], situation: Situation, devices: int) -> dict[str, Interval]:
    """With the rates that follow from times; `batch_tokens_per_second` is of all batches under way."""
    found = dict(metrics)
    for key, count in (
        ("decode_tokens_per_second", situation.batch),
        ("batch_tokens_per_second", situation.batch * devices),
    ):
        step = found["tpot"]
        found[key] = Interval(value=count / step.value, low=count / step.high, high=count / step.low)
    return found
