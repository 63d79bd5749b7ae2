"""Waiting times against queues that are simulated, and against the exact ones of one slot."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from graphopt.cost import queue_of


def simulated(slots: int, service: float, utilisation: float, requests: int = 200_000) -> float:
    """The mean wait of so many requests that come at random."""
    rng = np.random.default_rng(0)
    arrivals = np.cumsum(rng.exponential(service / slots / utilisation, requests))
    free, waited = [0.0] * slots, 0.0
    for time in arrivals:
        begins = max(float(time), heapq.heappop(free))
        heapq.heappush(free, begins + service)
        waited += begins - float(time)
    return waited / requests


@pytest.mark.parametrize("utilisation", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("slots", [1, 2, 8])
def test_waits_are_those_of_a_simulation(slots: int, utilisation: float) -> None:
    found = queue_of(slots, 2.0, utilisation)
    assert found.wait == pytest.approx(simulated(slots, 2.0, utilisation), rel=0.15, abs=0.01)


def test_one_slot_is_exactly_pollaczek_and_khinchine() -> None:
    assert queue_of(1, 3.0, 0.5).wait == pytest.approx(0.5 * 3.0 / (2 * (1 - 0.5)))


def test_requests_fill_the_slots_for_the_share_that_was_asked_for() -> None:
    found = queue_of(4, 2.0, 0.6)
    assert found.requests_per_second * found.service / found.slots == pytest.approx(0.6)
