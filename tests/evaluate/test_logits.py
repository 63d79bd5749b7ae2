"""Language models as functions: the same logits from a session, a reference, and a whole padded call."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import BadInput
from graphopt.evaluate import reference_logits, session_logits, whole_sequence
from graphopt.interface import TensorSpec
from graphopt.runtime import session_specs
from tests.passes._canonical import Shape, canonical_decoder
from tests.passes._runs import Lowered, outputs, session

SHAPE = Shape()
TOKENS = np.random.default_rng(0).integers(0, SHAPE.vocab, 12)


def test_a_pruned_head_is_asked_for_every_position() -> None:
    lowered = Lowered(SHAPE, "last-token-head")
    assert [spec.name for spec in session(lowered.model).get_overridable_initializers()] == ["logits_to_keep"]

    got = session_logits(session(lowered.model))(TOKENS)
    expected = session_logits(session(canonical_decoder(SHAPE)))(TOKENS)

    assert got.shape == (12, SHAPE.vocab)
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)


def test_a_reference_gives_what_its_session_gives() -> None:
    opened = session(canonical_decoder(SHAPE))
    reference = reference_logits(lambda feeds: outputs(opened, feeds), session_specs(opened.get_inputs()))

    np.testing.assert_array_equal(reference(TOKENS), session_logits(opened)(TOKENS))


def test_a_later_token_changes_nothing_before_it() -> None:
    """What perplexity rests on: a position's logits are of the tokens up to it."""
    logits = session_logits(session(canonical_decoder(SHAPE)))
    other = TOKENS.copy()
    other[8] = (other[8] + 1) % SHAPE.vocab

    np.testing.assert_allclose(logits(other)[:8], logits(TOKENS)[:8], atol=1e-6, rtol=0)
    assert np.abs(logits(other)[8] - logits(TOKENS)[8]).max() > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_cache_is_empty_and_of_the_models_type(dtype: str) -> None:
    feeds = whole_sequence([TensorSpec("past_key_values.0.key", dtype, ("batch", 2, None, 16))], TOKENS)

    assert feeds["past_key_values.0.key"].shape == (1, 2, 0, 16)
    assert feeds["past_key_values.0.key"].dtype == dtype


def test_only_what_the_model_takes_is_fed() -> None:
    feeds = whole_sequence([TensorSpec(name, "int64", ()) for name in ("input_ids", "position_ids")], TOKENS)

    assert list(feeds) == ["input_ids", "position_ids"]
    np.testing.assert_array_equal(feeds["position_ids"], [np.arange(12)])


def test_an_input_of_unknown_meaning() -> None:
    with pytest.raises(BadInput, match="'pixels'"):
        whole_sequence([TensorSpec("pixels", "int64", ())], TOKENS)
