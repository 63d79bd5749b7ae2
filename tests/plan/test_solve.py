"""The solver beside trying everything."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.plan import solve, total

costs = st.fixed_dictionaries(
    {
        "damage": st.floats(1e-7, 10),
        "bytes": st.integers(1, 10**9).map(float),
        "seconds": st.integers(1, 50).map(lambda n: n * 1e-5),
    }
)
units = st.lists(st.lists(costs, min_size=1, max_size=4), min_size=1, max_size=4)
limits = st.dictionaries(st.sampled_from(["damage", "bytes", "seconds"]), st.floats(0.2, 1.2), max_size=2)


def within(
    choices: Sequence[Sequence[Mapping[str, float]]], chosen: Sequence[int], bounds: Mapping[str, float]
) -> bool:
    return all(total(choices, chosen, cost) <= bound * (1 + 1e-9) for cost, bound in bounds.items())


@settings(max_examples=60, deadline=None)
@given(units, limits)
def test_it_finds_what_trying_everything_finds(
    choices: list[list[dict[str, float]]], shares: dict[str, float]
) -> None:
    """Limits are shares of the dearest plan's sums: some are out of reach."""
    bounds = {
        cost: share * sum(max(choice[cost] for choice in unit) for unit in choices)
        for cost, share in shares.items()
    }
    everything = itertools.product(*(range(len(unit)) for unit in choices))
    best = min(
        (total(choices, chosen, "damage") for chosen in everything if within(choices, chosen, bounds)),
        default=None,
    )

    chosen = solve(choices, "damage", bounds)

    if best is None:
        assert chosen is None
    else:
        assert chosen is not None
        assert within(choices, chosen, bounds)
        assert total(choices, chosen, "damage") == pytest.approx(best, rel=1e-5)


def test_a_limit_that_is_met_exactly_is_met() -> None:
    choices = [[{"damage": 1.0, "bytes": 3e8 + 1}, {"damage": 2.0, "bytes": 1e8}] for _ in range(7)]
    assert solve(choices, "damage", {"bytes": 7 * (3e8 + 1)}) == (0,) * 7
    assert solve(choices, "damage", {"bytes": 7 * (3e8 + 1) - 1}) != (0,) * 7


def test_it_says_nothing_itself(capfd: pytest.CaptureFixture[str]) -> None:
    """HiGHS 1.12 writes a line to standard output while it solves this."""
    import numpy as np

    rng = np.random.default_rng(0)
    for _ in range(2):
        choices = []
        for _ in range(60):
            size, harm = rng.lognormal(), rng.lognormal(0, 1.5)
            choices.append(
                [
                    {"bytes": size * (b + 32 / k), "damage": harm * 4.0**-b * k**0.3 * rng.lognormal(0, 0.1)}
                    for b in (2, 4, 8)
                    for k in (32, 64, 128, 256)
                ]
            )
        assert solve(choices, "damage", {"bytes": 3 * sum(unit[2]["bytes"] / 2.25 for unit in choices)})
    assert capfd.readouterr() == ("", "")
