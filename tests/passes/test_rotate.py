"""Turned residual streams: the same answers, every edit proven, and wrong ones found."""

from __future__ import annotations

import numpy as np
import pytest
from graphopt_passes._rotations import Rotation, rotation

from graphopt.ir import Expr, InMemory, Rotated
from graphopt.pipeline import Mismatch
from tests.passes._canonical import Shape
from tests.passes._other_weights import FAMILIES, largest_error, verdicts, verified
from tests.passes._runs import Lowered

STEPS = ("pack-qkv", "absorb-gains", "rotate")


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "one-head-each"])
def test_the_answers_are_the_same(name: str) -> None:
    lowered = Lowered(FAMILIES[name], *STEPS)
    assert lowered.result.records[-1].applied == 1 + 4 * FAMILIES[name].layers + 1
    assert largest_error(lowered) < 1e-5
    before = Lowered(FAMILIES[name], *STEPS[:2])
    assert lowered.operators == before.operators


@pytest.mark.parametrize("name", ["gemma2", "gpt2"])
def test_what_cannot_turn_stays(name: str) -> None:
    lowered = Lowered(FAMILIES[name], *STEPS)
    assert lowered.result.records[-1].applied == 0
    assert lowered.result.records[-1].near_misses


def test_every_edit_is_proven() -> None:
    assert verdicts(verified(Shape(layers=1, bias=True), *STEPS), "rotate") == {"proven"}


def test_a_stream_keeps_no_large_channel() -> None:
    """Rows of the table with one channel that is fifty times as large as the rest."""
    rows = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    rows[:, 3] *= 50
    turned = rotation(64, 0).of(InMemory(rows), 1).read()
    assert np.abs(rows).max() / rows.std() > 8
    assert np.abs(turned).max() / turned.std() < 4
    assert np.allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(rows, axis=1), rtol=1e-5)


def _not_turned_back(self: Rotation, source: Expr, axis: int) -> Expr:
    return Rotated(source, InMemory(self.signs), InMemory(self.core), axis, inverse=axis == 1)


def _readers_alone(self: Rotation, source: Expr, axis: int) -> Expr:
    return Rotated(source, InMemory(self.signs), InMemory(self.core), axis) if axis == 1 else source


def _not_orthogonal(self: Rotation, source: Expr, axis: int) -> Expr:
    return Rotated(source, InMemory(self.signs), InMemory(self.core * np.float32(1.001)), axis)


@pytest.mark.parametrize("wrong", [_not_turned_back, _readers_alone, _not_orthogonal])
def test_a_wrong_rotation_is_found(wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rotation, "of", wrong)
    with pytest.raises(Mismatch):
        verified(Shape(layers=1), *STEPS)


@pytest.mark.parametrize("size", [2, 3, 12, 14, 20, 28, 36, 52, 64, 96])
def test_rotations_are_orthogonal(size: int) -> None:
    matrix = rotation(size, 1).matrix.astype(np.float64)
    assert np.abs(matrix @ matrix.T - np.eye(size)).max() < 1e-6
    assert not np.array_equal(matrix, rotation(size, 2).matrix)


@pytest.mark.parametrize("size", [12, 20, 28, 36, 64, 96])
def test_rotations_of_usual_sizes_are_of_hadamard(size: int) -> None:
    assert np.allclose(np.abs(rotation(size, 0).matrix), size**-0.5, atol=1e-6)
