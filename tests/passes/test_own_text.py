"""Text that a model writes to be calibrated on: drawn from what it says, the same every time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from graphopt_passes import _own_text
from graphopt_passes._own_text import with_own_text

from graphopt.calibrate import CalibrationData, from_windows
from graphopt.ir import evaluate
from graphopt.pipeline import Context
from graphopt.runtime import states_by_name
from tests.passes._canonical import Domain, Shape, canonical_decoder

Array = np.ndarray[Any, Any]
SHAPE = Shape(layers=1, positions=20)
TOKENS = 64 * 20 * 2


class Reader(Domain):
    """Says how a text is read."""

    @property
    def positions(self) -> int:
        return self.shape.positions

    def reading(self, tokens: Array, past: int = 0) -> dict[str, Array]:
        batch, length = tokens.shape
        feeds = {"input_ids": tokens, "attention_mask": np.ones((batch, past + length), np.int64)}
        feeds["position_ids"] = np.tile(np.arange(past, past + length), (batch, 1))
        empty = np.zeros((batch, self.shape.kv_heads, 0, self.shape.head), np.float32)
        return feeds if past else feeds | dict.fromkeys(states(), empty)


def states() -> dict[str, str]:
    return dict(states_by_name(value.name or "" for value in canonical_decoder(SHAPE).graph.inputs))


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_own_text, "_LEAST", 1)


def context(**changes: Any) -> Context:
    known = Context(
        canonical_decoder(SHAPE), domain=Reader(SHAPE), states=states(), config={"bos_token_id": 7}
    )
    return replace(known, **changes)


def texts(around: Context, tokens: int = TOKENS) -> Array:
    found = with_own_text(around, around.model.graph, tokens)
    assert found is not None
    return np.stack(found.windows)


def test_it_is_drawn_from_what_the_model_says() -> None:
    around = context()
    found = texts(around)
    assert found.shape == (128, 20)
    assert (found[:, 0] == 7).all()
    assert len(np.unique(found[:, 1:], axis=0)) == 128
    feeds = Reader(SHAPE).reading(found)
    names = [value.name for value in around.model.graph.outputs]
    logits = evaluate(around.model, feeds)[names.index("logits")][:, :-1].astype(np.float64)
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    drawn = np.take_along_axis(log, found[:, 1:, None], -1).ravel()
    entropies = -(np.exp(log) * log).sum(-1).ravel()
    spread = (drawn + entropies).std() / len(drawn) ** 0.5
    assert abs((drawn + entropies).mean()) < 4 * spread
    assert entropies.mean() < 0.9 * np.log(SHAPE.vocab)  # so that tokens drawn from nothing would be far off


def test_it_is_the_same_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for count in (1, 3):
        monkeypatch.setattr(_own_text, "default_threads", lambda count=count: count)
        made.append(texts(context()))
    assert np.array_equal(*made)


def test_it_stands_among_the_text_that_is_given() -> None:
    windows = [np.arange(20) % SHAPE.vocab for _ in range(8)]
    given = from_windows("a.txt", windows, Reader(SHAPE))
    around = context(calibration=given)
    found = with_own_text(around, around.model.graph, TOKENS)
    assert found is not None
    assert (found.name, len(found.windows)) == ("a.txt and text of its own", 136)
    theirs = [i for i, window in enumerate(found.windows) if np.array_equal(window, windows[0])]
    assert [i // 17 for i in theirs] == list(range(8))
    stream = around.stream(data=found)
    assert not isinstance(stream, str)
    assert len(stream) == 136
    assert around.decisions["calibration"]["name"] == "a.txt"


def test_given_text_is_read_in_parts_no_longer_than_the_written() -> None:
    given = from_windows("a.txt", [np.arange(50) % SHAPE.vocab], Reader(SHAPE))
    found = with_own_text(context(calibration=given), context().model.graph, TOKENS)
    assert found is not None
    assert max(map(len, found.windows)) == 20
    assert any(np.array_equal(window, np.arange(40, 50) % SHAPE.vocab) for window in found.windows)


def test_a_large_model_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_own_text, "_WORK", 1)
    assert with_own_text(context(), context().model.graph, TOKENS) is None


def test_what_is_no_language_model_writes_nothing_and_says_so() -> None:
    around = context(states={})
    assert with_own_text(around, around.model.graph, TOKENS) is None
    assert around.notes == [
        "calibrated without text that the model writes: it is no language model that goes on from a state"
    ]


def test_arrays_stay_as_they_are() -> None:
    given = CalibrationData("samples.npz", "", (), 8, unit="samples")
    around = context(calibration=given)
    assert with_own_text(around, around.model.graph, TOKENS) is given
