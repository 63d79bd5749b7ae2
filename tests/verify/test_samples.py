"""Edits whose promise is one for what a model is calibrated on are run on that, and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.pipeline import Contract
from graphopt.verify import EditVerifier
from tests.verify._planted_text import Planted, edit_of, model_of

CLIPPED = Planted(
    "float[N,4] x", "float[N,4] y", "y = Tanh(x)", "c = Clip(x, low, high) y = Tanh(c)", "y = Neg(x)",
    "float low = {-0.5}, float high = {0.5}", Contract.lossy("sqnr", 30.0),
)  # fmt: skip


@pytest.mark.parametrize(
    ("largest", "nodes", "status"),
    [(0.4, "right", "within budget"), (4.0, "right", "failed"), (0.4, "wrong", "failed")],
)
def test_the_samples_decide(largest: float, nodes: str, status: str) -> None:
    model = model_of(CLIPPED)
    asked: list[str | None] = []

    def samples(values: Sequence[ir.Value]) -> list[Any]:
        asked.extend(value.name for value in values)
        return [np.linspace(-largest, largest, 12, dtype=np.float32).reshape(3, 4) for _ in values]

    edit = replace(edit_of(model, CLIPPED, getattr(CLIPPED, nodes)), samples=samples)
    with EditVerifier() as verifier:
        verdict = verifier.check(model, edit, CLIPPED.contract)

    assert verdict.status == status
    assert set(asked) == {"x"}
    assert ("calibrated on" in verdict.reason) == (status == "within budget")


def test_other_samples_are_checked_anew() -> None:
    model = model_of(CLIPPED)
    edit = edit_of(model, CLIPPED, CLIPPED.right)
    with EditVerifier() as verifier:
        found = [
            verifier.check(
                model, replace(edit, samples=lambda values, x=x: [x] * len(values)), CLIPPED.contract
            )
            for x in (np.full((2, 4), 0.3, np.float32), np.full((2, 4), 3.0, np.float32))
        ]

    assert [verdict.status for verdict in found] == ["within budget", "failed"]
