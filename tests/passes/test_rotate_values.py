"""Turned values: the same answers, a cache in other coordinates, every edit proven, and wrong ones found."""

from __future__ import annotations

import numpy as np
import pytest
from graphopt_passes._adapters import TurnedValues
from graphopt_passes._rotations import Rotation, rotation

from graphopt.ir import Expr, InMemory, Rotated
from graphopt.pipeline import Mismatch
from tests.passes._canonical import Shape
from tests.passes._other_weights import FAMILIES, largest_error, verdicts, verified
from tests.passes._runs import Lowered

STEPS = ("pack-qkv", "rotate-values")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_answers_are_the_same(name: str) -> None:
    """The caches, too, through the adapter."""
    lowered = Lowered(FAMILIES[name], *STEPS)
    assert lowered.result.records[-1].applied == FAMILIES[name].layers
    assert largest_error(lowered) < 1e-5
    assert lowered.operators == Lowered(FAMILIES[name], STEPS[0]).operators


def test_it_goes_together_with_a_turned_stream_and_lowering() -> None:
    steps = ("pack-qkv", "absorb-gains", "rotate", "rotate-values", "lower-attention")
    lowered = Lowered(FAMILIES["llama"], *steps)
    assert lowered.operators["GroupQueryAttention"] == 1
    assert largest_error(lowered) < 1e-5


def test_every_edit_is_proven() -> None:
    found = verified(Shape(layers=1, bias=True), *STEPS)
    assert verdicts(found, "rotate-values") == {"proven"}


def _inverse_behind(self: Rotation, source: Expr, axis: int) -> Expr:
    return Rotated(source, InMemory(self.signs), InMemory(self.core), axis, inverse=axis == 1)


def _values_alone(self: Rotation, source: Expr, axis: int) -> Expr:
    return Rotated(source, InMemory(self.signs), InMemory(self.core), axis) if axis == 0 else source


@pytest.mark.parametrize("wrong", [_inverse_behind, _values_alone])
def test_a_wrong_rotation_is_found(wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = rotation(16, 0)
    assert turn.matrix.any()  # made before `of` is another one
    monkeypatch.setattr(Rotation, "of", wrong)
    monkeypatch.setattr(Rotation, "matrix", turn.matrix)
    with pytest.raises(Mismatch):
        verified(Shape(layers=1), *STEPS)


def test_the_adapter_turns_a_cache_there_and_back() -> None:
    adapter = TurnedValues("past", "present", 16, 3)
    cache = np.random.default_rng(0).standard_normal((2, 3, 5, 16)).astype(np.float32)
    turned = adapter.feeds({"past": cache})["past"]
    assert np.abs(turned - cache).max() > 0.1
    assert np.allclose(adapter.results({"present": turned})["present"], cache, atol=1e-5)
    assert TurnedValues.from_json({k: v for k, v in adapter.to_json().items() if k != "kind"}) == adapter
