"""Drafted tokens make a text come in fewer calls, and never make another text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt.runtime import Decoder, Sampling, Speculation, Tokenizer
from graphopt.runtime._sampling import chooser
from graphopt.runtime._speculate import Costs, PromptLookup, best_length
from graphopt.testing import session
from tests.passes._canonical import canonical_decoder
from tests.passes._runs import Lowered
from tests.runtime._served import served
from tests.runtime.conftest import SHAPE, opened, text_model

PROMPT = np.tile(np.random.default_rng(3).integers(1, SHAPE.vocab, 5), 3).tolist()
COUNT = 40


@pytest.fixture(scope="module", params=["shared", "growing", "as-exported"])
def decoder(request: pytest.FixtureRequest, lowered: Lowered) -> Decoder:
    if request.param == "as-exported":
        return Decoder(session(canonical_decoder(SHAPE)))
    return Decoder(session(lowered.model), capacity=SHAPE.positions if request.param == "shared" else None)


def greedy(decoder: Decoder, prompt: list[int], count: int) -> tuple[list[int], Any]:
    """The likeliest continuation, token by token, and the logits [count, vocabulary] it was chosen from."""
    decoder.reset()
    tokens, seen, fed = list[int](), [], prompt
    for _ in range(count):
        logits = decoder.append(np.asarray(fed))[0, -1]
        seen.append(logits.copy())
        tokens.append(int(logits.argmax()))
        fed = tokens[-1:]
    return tokens, np.stack(seen)


def test_the_text_is_the_greedy_one(decoder: Decoder) -> None:
    expected, logits = greedy(decoder, PROMPT, COUNT)
    second, first = np.sort(logits)[:, -2:].T
    assert (first - second).min() > 1e-4  # no near-tie that could go either way

    decoder.reset()

    assert list(Speculation(decoder).tokens(PROMPT, COUNT)) == expected


def test_a_trained_model_says_the_same_up_to_near_ties(
    tiny_coder_at: Callable[[str], Path], tiny_coder: Path
) -> None:
    """In fewer calls; and where the two texts part, the tokens were nearer than rounding moves logits.

    A kernel that rounds activations to int8 answers one row and many a little differently.
    """
    package = tiny_coder_at("int4")
    decoder = Decoder(opened(package), capacity=512)
    text = (tiny_coder / "heldout.txt").read_text(encoding="utf-8")
    prompt = Tokenizer(package).plain(text[:2000])[:256]
    expected, logits = greedy(decoder, prompt, 128)
    decoder.reset()
    at_once = decoder.append(np.asarray(prompt + expected[:-1]), keep=128)[0]
    moved = np.abs(at_once - logits).max()
    decoder.reset()
    speculation = Speculation(decoder)
    found = list(speculation.tokens(prompt, 128))
    same = next((i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b), 128)

    assert moved < 0.2 * logits.std()
    assert speculation.calls < 110
    assert same > 16
    if same < 128:
        assert logits[same, expected[same]] - logits[same, found[same]] <= 2 * moved


def test_a_text_that_repeats_itself_comes_in_fewer_calls(decoder: Decoder) -> None:
    text = PROMPT[:5] * 11
    decoder.reset()
    speculation = Speculation(
        decoder, lambda logits, said: np.asarray(text[len(said) + 1 - len(logits) : len(said) + 1])
    )

    assert list(speculation.tokens(PROMPT, COUNT)) == text[len(PROMPT) :]
    assert speculation.calls < COUNT / 3


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_chosen_wrong_drafts_leave_no_trace(decoder: Decoder, seed: int) -> None:
    """The text to choose is given, and half of it repeats what came before: drafts are right and wrong."""
    rng = np.random.default_rng(seed)
    text = list(PROMPT)
    while len(text) < len(PROMPT) + COUNT:
        start = int(rng.integers(0, len(text) - 4))
        text += text[start : start + 4] if rng.random() < 0.5 else rng.integers(1, SHAPE.vocab, 2).tolist()
    seen: dict[int, Any] = {}

    def choose(logits: Any, said: Sequence[int]) -> Any:
        end = decoder.length + 1
        assert len(said) == decoder.length
        assert list(said[: end - len(logits)]) == text[: end - len(logits)]
        seen.update(zip(range(end - len(logits), end), logits.copy(), strict=True))
        return np.asarray(text[end - len(logits) : end])

    decoder.reset()
    made = list(Speculation(decoder, choose).tokens(PROMPT, COUNT))
    assert made == text[len(PROMPT) : len(PROMPT) + COUNT]

    decoder.reset()
    whole = decoder.append(np.asarray(text[: len(PROMPT) + COUNT - 1]), keep=COUNT)[0]
    for place in range(len(PROMPT), len(PROMPT) + COUNT):
        np.testing.assert_allclose(seen[place], whole[place - len(PROMPT)], atol=1e-4, rtol=0)


def drafted(text: list[int], limit: int) -> list[int]:
    lookup = PromptLookup()
    lookup.extend(text)
    return [guess.token for guess in lookup.draft(limit)]


def test_a_text_without_repetition_has_no_drafts() -> None:
    assert drafted(list(range(50)), 5) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param([1, 2, 3, 7, 2, 3, 8, 9, 2, 3], [8], id="the latest of equals"),
        pytest.param([2, 3, 7, 2, 3, 7, 2, 3, 8, 5, 2, 3], [7], id="what came most often"),
        pytest.param([1, 2, 3, 7, 5, 2, 3, 8, 6, 2, 3, 8, 1, 2, 3], [7], id="the longest match"),
    ],
)
def test_what_is_drafted(text: list[int], expected: list[int]) -> None:
    assert drafted(text, 1) == expected


def test_each_token_of_a_draft_follows_from_those_before_it() -> None:
    assert drafted([4, 5, 6, 7, 8, 1, 4, 5], 4) == [6, 7, 8, 1]
    assert drafted([1, 2] * 5, 4) == [1, 2, 1, 2]


def test_drafts_get_longer_with_trust_and_shorter_with_cost() -> None:
    lengths = [best_length([trust] * 4, [1, 1.2, 1.4, 1.6, 1.8]) for trust in (0.1, 0.3, 0.5, 0.9)]

    assert lengths[0] == 0
    assert lengths[-1] == 4
    assert all(a <= b for a, b in pairwise(lengths))
    assert best_length([0.9] * 3, [1, 2.0, 3.0, 4.0]) == 0
    assert best_length([1.0, 1.0], [1, 1.5, 1.6]) == 2
    assert best_length([0.9, 0.1, 0.9], [1, 1.2, 1.4, 1.6]) == 1


def test_trust_follows_what_came_true() -> None:
    lookup = PromptLookup()
    lookup.extend([1, 2, 3, 1, 2])
    (before,) = lookup.draft(1)
    for _ in range(30):
        lookup.learn(before, right=False)
    (after,) = lookup.draft(1)

    assert after.trust < before.trust / 2
    for _ in range(200):
        lookup.learn(before, right=True)
    assert lookup.draft(1)[0].trust > 0.9


def test_costs_are_what_was_observed_beside_one_token() -> None:
    costs = Costs()
    costs.observe(1, 0.02)
    costs.observe(3, 0.03)

    assert costs.relative(3)[0] == 1
    assert costs.relative(3)[2] == pytest.approx(1.5)
    assert 1 < costs.relative(3)[1] < 1.1


def test_a_package_says_the_same_as_through_genai(folder: Path) -> None:
    prompt = "def area(width, height):\n    return width * height\n\n\ndef area(width"

    found = "".join(text_model(folder, speculate=True).generate(prompt, max_new_tokens=24))
    assert found == served(folder, prompt, 24)


def test_it_ends_where_the_model_ends_a_text(own: Path) -> None:
    tokens, _ = greedy(Decoder(opened(own)), Tokenizer(own).plain("import os"), 12)
    whole = "".join(text_model(own, speculate=True).generate("import os", max_new_tokens=12))
    config = (own / "genai_config.json").read_text(encoding="utf-8")
    (own / "genai_config.json").write_text(
        config.replace('"eos_token_id": 0', f'"eos_token_id": [{tokens[4]}, 0]'), encoding="utf-8"
    )
    ended = "".join(text_model(own, speculate=True).generate("import os", max_new_tokens=12))

    assert whole.startswith(ended)
    assert ended == "".join(Tokenizer(own).pieces().of(tokens[:4]))


def test_the_same_seed_draws_the_same_text_with_and_without_drafts(folder: Path) -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, seed=5)
    prompt = "def area(width, height):\n    return width * height\n\n\ndef area(width"
    drafted, plain, other = (
        "".join(text_model(folder, speculate=s).generate(prompt, max_new_tokens=16, sampling=how))
        for s, how in ((True, sampling), (False, sampling), (False, replace(sampling, seed=6)))
    )

    assert drafted == plain
    assert other != plain


@pytest.mark.parametrize(("top_p", "support"), [(1.0, 4), (0.75, 2), (0.01, 1)])
def test_tokens_are_drawn_as_often_as_they_are_likely(top_p: float, support: int) -> None:
    chances = np.asarray([0.1, 0.5, 0.15, 0.25])
    choose = chooser(Sampling(temperature=0.5, top_p=top_p, seed=1))
    drawn = choose(np.tile(np.log(chances) * 0.5, (4000, 1)), [0] * 4000)
    kept = np.where(chances >= np.sort(chances)[-support], chances, 0)

    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 4000, kept / kept.sum(), atol=0.03)


@pytest.mark.parametrize("spread", [0.01, 1.0, 8.0])
@pytest.mark.parametrize("top_p", [0.3, 0.95, 0.9999])
def test_a_large_vocabulary_is_drawn_from_as_if_it_were_sorted(spread: float, top_p: float) -> None:
    logits = np.random.default_rng(0).normal(0, spread, (8, 5000)).astype(np.float32)
    drawn = chooser(Sampling(temperature=0.7, top_p=top_p, seed=3))(logits, [0] * 8)

    for place, (row, token) in enumerate(zip(logits, drawn, strict=True), start=1):
        order = np.argsort(-row.astype(np.float64), kind="stable")
        chances = np.exp((row[order].astype(np.float64) - row.max()) / 0.7)
        mass = np.cumsum(chances)
        kept = mass[: int(np.searchsorted(mass, top_p * chances.sum())) + 1]
        number = np.random.default_rng((3, place)).random() * kept[-1]
        assert token == order[np.searchsorted(kept, number, side="right")]
