"""Answers beside the reference's: a source agrees with a draft or not, and what is cut short shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from graphopt.evaluate._generations import NEW_TOKENS, agreement, answers, generated, length_shares
from graphopt.runtime import Completion, Tokenizer
from tests.evaluate._sides import END, WORDS, Chain, text_of, tokenizer_in


def done(*tokens: int, stopped: bool = False) -> Completion:
    return Completion(text_of(tokens), 3, tokens, "stop" if stopped else "length")


def cycle(*order: int) -> np.ndarray:
    """A table by which each token of `order` is followed by the next, the last by the first."""
    rows = np.zeros((WORDS, WORDS), np.float32)
    rows[list(order), [*order[1:], order[0]]] = 1
    return rows


def settings(folder: Path, **said: object) -> Path:
    (tokenizer_in(folder) / "generation_config.json").write_text(json.dumps(said))
    (folder / "config.json").write_text("{}")
    return folder


ROUND = [3, 1, 2] * NEW_TOKENS


@pytest.mark.parametrize(
    "draft",
    [(), ROUND[:NEW_TOKENS], ROUND[:5], (*ROUND[:4], 9, 9, 9), (9,), [9] * NEW_TOKENS, ROUND],
    ids=["none", "right", "short", "half right", "wrong", "wrong and long", "too long"],
)
def test_whatever_the_draft_a_source_gives_its_own_answer(tmp_path: Path, draft: tuple[int, ...]) -> None:
    side = Chain(settings(tmp_path), cycle(1, 2, 3))

    (found,) = answers(side, [text_of([1, 2])], [done(*draft)], tmp_path)

    assert found.tokens == tuple(ROUND[:NEW_TOKENS])
    assert found.finish_reason == "length"


@pytest.mark.parametrize("draft", [(), (3, 4), (3, 4, 5, 5), (7,)])
def test_a_source_ends_where_its_settings_say(tmp_path: Path, draft: tuple[int, ...]) -> None:
    side = Chain(settings(tmp_path, eos_token_id=END), cycle(2, 3, 4, END))

    (found,) = answers(side, [text_of([2])], [done(*draft)], tmp_path)

    assert (found.tokens, found.finish_reason) == ((3, 4), "stop")


def test_a_sources_penalties_hold(tmp_path: Path) -> None:
    rows = cycle(1, 2, 3)
    rows[2, 5] = 0.9
    side = Chain(settings(tmp_path, suppress_tokens=[3]), rows)

    (found,) = answers(side, [text_of([1, 2])], [done(3, 1)], tmp_path)

    assert found.tokens[0] == 5


def test_agreement_counts_tokens_before_the_first_that_differs() -> None:
    assert agreement(done(1, 2, 3, 4), done(1, 2, 9, 4)).tolist() == [1, 1, 0, 0]
    assert agreement(done(1, 2, stopped=True), done(1, 2, stopped=True)).tolist() == [1, 1, 1]
    assert agreement(done(stopped=True), done(stopped=True)).tolist() == [1]


def test_an_answer_that_is_cut_short_or_does_not_end_shows_in_both() -> None:
    whole, cut, endless = done(1, 2, 3, 4), done(1, stopped=True), done(*range(1, 9))

    assert agreement(whole, cut).tolist() == [1, 0, 0, 0]
    assert length_shares(whole, cut).tolist() == [1, 1, 0, 0]
    assert length_shares(done(1, 2, stopped=True), endless).mean() == 3 / 8
    assert length_shares(whole, whole).mean() == agreement(whole, whole).mean() == 1


def test_what_is_shown_of_two_answers(tmp_path: Path) -> None:
    tokenizer = Tokenizer(tokenizer_in(tmp_path))
    texts = {tokens: "".join(tokenizer.pieces().of(tokens)) for tokens in [(1, 2, 3), (1, 2, 4)]}
    one, other = (Completion(texts[t], 3, t, "length") for t in texts)

    found = generated("p", one, other, tokenizer)

    assert (found.reference, found.answer, found.prompt) == (*texts.values(), "p")
    assert (found.agreed, found.reference_tokens, found.answer_tokens) == (2, 3, 3)
    assert found.answer[: found.agreed_text] == found.reference[: found.agreed_text] == "w1w2"
