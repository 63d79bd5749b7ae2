"""Scores are what transformers makes of logits, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig as Theirs
from transformers import LlamaConfig, LlamaForCausalLM

from graphopt.runtime import GenerationConfig
from graphopt.runtime._rules import TokenRules

VOCABULARY, PROMPT, LONGEST = 12, 3, 9
ENDS = [2, 5]
SETTINGS: dict[str, Any] = {
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[7], [1, 3], [2], [0, 1, 4]],
    "sequence_bias": [[[3], 1.5], [[1, 4], -2.0]],
    "min_length": 6,
    "min_new_tokens": 2,
    "forced_eos_token_id": 5,
    "remove_invalid_values": True,
    "exponential_decay_length_penalty": [2, 1.5],
    "suppress_tokens": [8, 9, 400],
    "begin_suppress_tokens": [10],
}


@pytest.fixture(scope="module")
def theirs() -> LlamaForCausalLM:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes))


def in_transformers(model: LlamaForCausalLM, said: dict[str, Any], prompt: int) -> Any:
    config = Theirs(max_length=LONGEST, eos_token_id=ENDS, **said)
    config._eos_token_tensor = torch.tensor(ENDS)
    return model._get_logits_processor(config, input_ids_seq_length=prompt)


texts = st.lists(st.integers(0, VOCABULARY - 1), min_size=PROMPT, max_size=LONGEST - 1)


@pytest.mark.parametrize(
    "said", [{k: v} for k, v in SETTINGS.items()] + [SETTINGS], ids=lambda s: "+".join(s)
)
def test_scores_are_those_of_transformers(said: dict[str, Any], theirs: LlamaForCausalLM) -> None:
    processors = in_transformers(theirs, said, PROMPT)
    rules = TokenRules(GenerationConfig.model_validate(said), ENDS, prompt=PROMPT, longest=LONGEST)
    seen = []

    @settings(max_examples=60, deadline=None)
    @given(text=texts, seed=st.integers(0, 99))
    @example(text=[1] * (LONGEST - 1), seed=1)  # what is said of a text's last token
    def check(text: list[int], seed: int) -> None:
        logits = np.random.default_rng(seed).normal(0, 4, (1, VOCABULARY)).astype(np.float32)
        logits[0, seed % VOCABULARY] = [np.nan, np.inf, -np.inf, 0][seed % 4]
        expected = processors(torch.tensor([text]), torch.from_numpy(logits.copy())).numpy()
        np.testing.assert_array_equal(rules(logits, text), expected)
        seen.append(not np.array_equal(expected, logits, equal_nan=True))

    check()
    assert any(seen)


def test_the_first_token_can_be_forced(theirs: LlamaForCausalLM) -> None:
    said = {"forced_bos_token_id": 4, "begin_suppress_tokens": [10]}
    processors = in_transformers(theirs, said, 1)
    rules = TokenRules(GenerationConfig.model_validate(said), ENDS, prompt=1, longest=LONGEST)
    logits = np.random.default_rng(0).normal(0, 4, (1, VOCABULARY)).astype(np.float32)

    for text in ([0], [0, 4], [0, 4, 1]):
        expected = processors(torch.tensor([text]), torch.from_numpy(logits.copy())).numpy()
        np.testing.assert_array_equal(rules(logits, text), expected)


def test_rows_of_a_draft_see_the_text_before_them() -> None:
    said = GenerationConfig.model_validate(SETTINGS)
    rules = TokenRules(said, ENDS, prompt=PROMPT, longest=LONGEST)
    rng = np.random.default_rng(1)
    logits, text = rng.normal(0, 4, (4, VOCABULARY)).astype(np.float32), rng.integers(0, 12, 8).tolist()

    together = rules(logits, text)
    for row in range(4):
        alone = rules(logits[row : row + 1], text[: 5 + row])
        np.testing.assert_array_equal(together[row : row + 1], alone)


def test_nothing_said_changes_and_copies_nothing() -> None:
    logits = np.zeros((1, VOCABULARY), np.float32)

    assert TokenRules(GenerationConfig(), ENDS, prompt=3, longest=9)(logits, [1, 2, 3]) is logits
