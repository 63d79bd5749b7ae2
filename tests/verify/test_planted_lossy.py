"""Damage that a metric does not see: all of it scaled, what is far from zero cut off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graphopt.pipeline import Contract
from graphopt.verify import EditVerifier
from tests.verify._planted_text import Planted, holds, parameters

_WEIGHTS = "float[4,4] w = {1, -2, 3, 4, -5, 6, 7, 8, 9, 1, -2, 3, 4, 5, 6, -7}"


def planted(contract: Contract, wrong: str) -> Planted:
    """A product, and the same with weights of which one is a little off."""
    return Planted(
        "float[N,4] x", "float[N,4] y", "y = MatMul(x, w)", "y = MatMul(x, v)", wrong,
        f"{_WEIGHTS}, float[4,4] v = {{1, -2, 3.02, 4, -5, 6, 7, 8, 9, 1, -2, 3, 4, 5, 6, -7}},"
        " float more = {1.05}, float less = {0.95}, float low = {-6}, float high = {6}, float far = {100}",
        contract,
    )  # fmt: skip


CONTRACTS = {"cosine": Contract.lossy("cosine_min", 0.999), "sqnr": Contract.lossy("sqnr", 20.0)}
WRONG = {
    "larger": "p = MatMul(x, w) y = Mul(p, more)",
    "smaller": "p = MatMul(x, w) y = Mul(p, less)",
    "cut-off-at-six": "c = Clip(x, low, high) y = MatMul(c, w)",
    "cut-off-above": "p = MatMul(x, w) y = Min(p, far)",
}


@pytest.fixture(scope="module")
def verifier() -> Iterator[EditVerifier]:
    with EditVerifier() as made:
        yield made


@pytest.mark.parametrize(
    "edit",
    parameters({f"{m}-{n}": planted(c, wrong) for m, c in CONTRACTS.items() for n, wrong in WRONG.items()}),
)
def test_damage_of_a_kind_that_a_metric_allows(verifier: EditVerifier, edit: Planted) -> None:
    holds(verifier, edit)
