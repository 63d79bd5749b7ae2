"""The decode loop gives the logits of the whole text, however the text comes and wherever the cache lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import onnxruntime_genai as genai
import pytest

from graphopt import BadInput
from graphopt.evaluate import session_logits
from graphopt.ir import parse, to_proto
from graphopt.runtime import Decoder, session_options
from graphopt.testing import session
from tests.passes._canonical import canonical_decoder
from tests.passes._runs import Lowered
from tests.runtime.conftest import SHAPE, text_model
from tests.runtime.conftest import opened as opened_from

TOKENS = np.random.default_rng(0).integers(1, SHAPE.vocab, 24)
WAYS = {"whole": [24], "prompt-then-tokens": [20, 1, 1, 1, 1], "chunks": [7, 9, 8], "tokens": [1] * 24}


@pytest.fixture(scope="module")
def opened(lowered: Lowered) -> Any:
    return session(lowered.model)


@pytest.fixture(scope="module")
def expected() -> Any:
    """Logits [S, vocabulary] that the graph as exported gives for the whole text at once."""
    return session_logits(session(canonical_decoder(SHAPE)))(TOKENS)


def fed(decoder: Decoder, sizes: list[int], tokens: Any = TOKENS) -> Any:
    """Logits [batch, S, vocabulary] of a text fed in pieces of these sizes."""
    ends = np.cumsum(sizes)
    pieces = np.split(np.atleast_2d(tokens), ends[:-1], axis=1)
    return np.concatenate([decoder.append(p, keep=p.shape[1]).copy() for p in pieces], axis=1)


@pytest.mark.parametrize("capacity", [None, 24, 40], ids=["growing", "shared", "shared-with-room"])
@pytest.mark.parametrize("sizes", WAYS.values(), ids=WAYS)
def test_pieces_add_up(opened: Any, expected: Any, sizes: list[int], capacity: int | None) -> None:
    decoder = Decoder(opened, capacity=capacity)

    np.testing.assert_allclose(fed(decoder, sizes)[0], expected, atol=1e-4, rtol=0)
    assert decoder.length == 24


def test_states_of_any_name_are_those_that_are_named(lowered: Lowered, opened: Any) -> None:
    plain = to_proto(lowered.model).SerializeToString()
    other = plain.replace(b"past_key_values.", b"kept_key_values.").replace(b"present.", b"renewed.")
    names = [spec.name for spec in opened.get_inputs() if spec.name.startswith("past_")]
    states = {n.replace("past_", "kept_"): n.replace("past_key_values", "renewed") for n in names}
    renamed = ort.InferenceSession(other, session_options(threads=1))

    found = fed(Decoder(renamed, states=states), [20, 4])
    np.testing.assert_array_equal(found, fed(Decoder(opened), [20, 4]))
    with pytest.raises(BadInput, match=r"kept_key_values\.0\.key"):
        Decoder(renamed)


@pytest.mark.parametrize("arena", [True, False])
def test_a_long_prompt_with_and_without_an_arena_to_give_back(lowered: Lowered, arena: bool) -> None:
    options = session_options(threads=1)
    options.enable_cpu_mem_arena = arena
    decoder = Decoder(ort.InferenceSession(to_proto(lowered.model).SerializeToString(), options), capacity=64)
    tokens = np.random.default_rng(1).integers(1, SHAPE.vocab, 48)
    pieces = fed(decoder, [40, 8], tokens)

    np.testing.assert_allclose(
        pieces[0], session_logits(session(canonical_decoder(SHAPE)))(tokens), atol=1e-4, rtol=0
    )


def test_a_graph_without_lowering_and_without_a_choice_of_logits(expected: Any) -> None:
    decoder = Decoder(session(canonical_decoder(SHAPE)))

    np.testing.assert_allclose(fed(decoder, [10, 1, 13])[0], expected, atol=1e-4, rtol=0)


def test_only_the_logits_asked_for(opened: Any, expected: Any) -> None:
    decoder = Decoder(opened)

    np.testing.assert_allclose(decoder.append(TOKENS), expected[None, -1:], atol=1e-4, rtol=0)


def test_a_batch(opened: Any, expected: Any) -> None:
    decoder = Decoder(opened, batch=2, capacity=32)
    got = fed(decoder, [20, 1, 1, 1, 1], np.stack([TOKENS[::-1], TOKENS]))

    np.testing.assert_allclose(got[1], expected, atol=1e-4, rtol=0)
    assert np.abs(got[0] - expected).max() > 0.1


@pytest.mark.parametrize("capacity", [None, 24])
def test_a_reset_forgets(opened: Any, expected: Any, capacity: int | None) -> None:
    decoder = Decoder(opened, capacity=capacity)
    decoder.append(TOKENS[::-1][:9].copy())
    decoder.reset()

    np.testing.assert_allclose(fed(decoder, [24])[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("capacity", [None, 24])
@pytest.mark.parametrize("sizes", WAYS.values(), ids=WAYS)
def test_a_text_that_grows_past_a_length_is_read_again(
    opened: Any, expected: Any, sizes: list[int], capacity: int | None
) -> None:
    read: list[int] = []

    class Session:
        """Notes how many tokens each call reads."""

        def __getattr__(self, name: str) -> Any:
            return getattr(opened, name)

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            read.append(decoder.length)
            opened.run_with_iobinding(binding, options)

    decoder = Decoder(Session(), capacity=capacity, restart_at=20)
    np.testing.assert_allclose(fed(decoder, sizes)[0], expected, atol=1e-4, rtol=0)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    crossing = next(i for i, start in enumerate(starts) if start + sizes[i] > 20)

    assert read == [0 if i == crossing else start for i, start in enumerate(starts)]
    assert decoder.room > 1000
    decoder.rewind(21)
    np.testing.assert_allclose(decoder.append(TOKENS[21:])[0, -1], expected[-1], atol=1e-4, rtol=0)
    assert decoder.length == 24


def test_a_draft_does_not_reach_past_where_a_text_is_read_again(opened: Any) -> None:
    decoder, rooms = Decoder(opened, restart_at=4), []
    for token in TOKENS[:5]:
        rooms.append(decoder.room)
        decoder.append(token)

    assert rooms[:4] == [3, 2, 1, 0]
    assert rooms[4] > 1000


def test_a_token_that_was_not_fed_is_missed(opened: Any, expected: Any) -> None:
    decoder = Decoder(opened)

    assert np.abs(fed(decoder, [22, 1], np.delete(TOKENS, 5))[0, -1] - expected[-1]).max() > 1e-2


def test_it_decodes_what_genai_decodes(folder: Path) -> None:
    text = text_model(folder)
    prompt = text.encode("def area(width, height):")
    decoder, tokens = Decoder(opened_from(folder), capacity=64), list(prompt)
    logits = decoder.append(np.asarray(prompt))
    for _ in range(12):
        tokens.append(int(logits[0, -1].argmax()))
        logits = decoder.append(np.asarray(tokens[-1:]))

    parameters = genai.GeneratorParams(model := genai.Model(str(folder)))
    parameters.set_search_options(do_sample=False, max_length=len(tokens))
    generator = genai.Generator(model, parameters)
    generator.append_tokens(prompt)
    while not generator.is_done():
        generator.generate_next_token()
    assert [int(t) for t in generator.get_sequence(0)] == tokens


def test_a_full_cache(opened: Any) -> None:
    decoder = Decoder(opened, capacity=8)
    decoder.append(TOKENS[:8])

    with pytest.raises(BadInput, match="9 tokens do not fit in a cache of 8"):
        decoder.append(TOKENS[8:9])


def test_vocabulary(opened: Any) -> None:
    assert Decoder(opened).vocabulary == SHAPE.vocab


SUMMING = """<ir_version: 10, opset_import: ["" : 23]>
g (int64[B,S] input_ids, float[B,1] "past_key_values.0.recurrent_state") =>
  (float[B,S,1] logits, float[B,1] "present.0.recurrent_state")
<int64[1] one = {1}, int64[1] two = {2}, int64 axis = {1}>
{
  tokens = Cast <to = 1> (input_ids)
  total = ReduceSum <keepdims = 0> (tokens, one)
  column = Unsqueeze(total, one)
  "present.0.recurrent_state" = Add("past_key_values.0.recurrent_state", column)
  sums = CumSum(tokens, axis)
  all = Add(sums, "past_key_values.0.recurrent_state")
  logits = Unsqueeze(all, two)
}
"""


def test_a_state_of_one_size_goes_from_call_to_call() -> None:
    decoder = Decoder(session(parse(SUMMING)))

    for _ in range(2):
        assert fed(decoder, [3, 1, 2], np.arange(6)[None])[0, :, 0].tolist() == [0, 1, 3, 6, 10, 15]
        decoder.reset()


def test_a_state_of_one_size_is_neither_shared_nor_rewound() -> None:
    with pytest.raises(BadInput, match="cannot be past and present at once"):
        Decoder(session(parse(SUMMING)), capacity=40)
    decoder = Decoder(session(parse(SUMMING)))
    decoder.append(np.arange(3))
    with pytest.raises(BadInput, match="cannot be rewound"):
        decoder.rewind(1)


@dataclass
class Described:
    """As much of a session as says what its inputs are."""

    name: str
    shape: list[int | str]
    type: str = "tensor(float)"

    def get_inputs(self) -> list[Described]:
        return [self]

    def get_overridable_initializers(self) -> list[Described]:
        return []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Described("pixels", [1, 3, 8, 8]), "'pixels' is not one of"),
        (Described("past_key_values.0.key", ["B", "H", "P", 8]), "the size of the cache"),
        (Described("past_key_values.0.key", [1, 2, "P", 8], "tensor(bool)"), "the size of the cache"),
    ],
)
def test_graphs_that_are_no_language_models(given: Described, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Decoder(given)
