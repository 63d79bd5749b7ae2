"""Streams that passes get from their context."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphopt.calibrate import CalibrationData, Stream, from_windows
from graphopt.errors import BadInput
from graphopt.families import InputDomain
from graphopt.interface import AddedInput
from graphopt.ir import parse
from graphopt.pipeline import Context

SUMS = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[B,S] x, float[B,P] past, int64[1] k) => (float[B,T] present, float[B,T] y) {
    present = Concat <axis = 1> (past, x)
    f = Cast <to = 1> (k)
    y = Mul(present, f)
}
"""


class Domain(InputDomain):
    """Texts as numbers, and those before as a state."""

    def cases(self, rng: np.random.Generator) -> Any:
        return iter(())

    def reading(self, tokens: np.ndarray, past: int = 0) -> dict[str, np.ndarray]:
        first = {} if past else {"past": np.zeros((1, 0), np.float32)}
        return {"x": tokens.astype(np.float32), **first}


class Silent(InputDomain):
    """A model that reads no text."""

    def cases(self, rng: np.random.Generator) -> Any:
        return iter(())


def context(**changes: Any) -> Context:
    data = from_windows("t.txt", [np.arange(1, 6), np.arange(6, 9)], Domain())
    known = Context(
        parse(SUMS),
        domain=Domain(),
        states={"past": "present"},
        calibration=data,
        adapters=[AddedInput("k", (2,))],
    )
    return replace(known, **changes)


def results(stream: Stream | str) -> list[Any]:
    assert isinstance(stream, Stream), stream
    return [y[0].tolist() for (y,) in stream.values([stream._graph.outputs[1]])]


def test_calls_go_through_the_adapters_of_passes_before() -> None:
    assert results(context().stream()) == [[2, 4, 6, 8, 10], [12, 14, 16]]


def test_the_last_tokens_are_read_after_what_was_read_before() -> None:
    assert results(context().stream(steps=2)) == [
        [2, 4, 6],
        [2, 4, 6, 8],
        [2, 4, 6, 8, 10],
        [12],
        [12, 14],
        [12, 14, 16],
    ]


def test_why_there_is_no_stream() -> None:
    assert context(calibration=None).stream() == "there is nothing to calibrate on"
    missing = context(adapters=[]).stream()
    assert missing == "what it is calibrated on has nothing for the input k"
    assert context(states={}).stream(steps=1) == "the model leaves nothing from one call to the next"
    assert from_windows("t", [np.arange(3)], Silent()) is None


def test_what_was_calibrated_on_is_noted_and_held_to() -> None:
    known = context()
    assert known.calibrated is None
    known.stream()
    assert known.notes == ["calibrated on t.txt: 8 tokens"]
    data = known.calibration
    assert data is not None
    assert known.calibrated == data.described()
    known.calibration = replace(data, digest="another")
    with pytest.raises(BadInput, match=r"was calibrated on t\.txt"):
        known.stream()


def test_the_rest_of_long_work_is_foretold(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    seconds = iter([0.0, 0.0, 10.0, 400.0])
    monkeypatch.setattr("graphopt.pipeline._context.time.monotonic", lambda: next(seconds))
    for _ in context(progress=said.append).watch(["a", "b", "c"], "rounding"):
        pass
    assert said == ["rounding 1 of 3", "rounding 2 of 3, 20 s left", "rounding 3 of 3, 3 min left"]


def test_data_without_texts_have_no_steps() -> None:
    data = CalibrationData("x.npz", "d", ({"x": np.zeros((1, 1), np.float32)},), 1)
    assert data.in_steps(Domain(), 1) is None
