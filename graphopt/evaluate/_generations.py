"""Greedily generated answers of a package beside its reference's."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.evaluate._logits import whole_sequence
from graphopt.evaluate._samples import Generated
from graphopt.evaluate._sides import PackageSide, Side, SourceSide
from graphopt.runtime import Answer, Completion, GenerationConfig, Tokenizer, TokenRules, context_length

__all__ = ["PROMPT_TOKENS", "agreement", "answers", "generated", "length_shares"]

PROMPT_TOKENS = 24
"""Two lines: enough for a model to go on with, few for what reads them again at every step."""
NEW_TOKENS = 32
"""At most, of an answer: many short answers say more than a few long ones, which after the first token that
differs say nothing."""
END = -1
"""What stands for the end of an answer: to stop is a choice like that of a token."""

Tokens = NDArray[np.int64]
Steps = Iterator[tuple[int, NDArray[Any]]]


def answers(
    side: Side, prompts: Sequence[str], drafts: Sequence[Completion], folder: Path
) -> list[Completion]:
    """The likeliest answer to each prompt, of at most 32 tokens, ended as the model's settings say.

    `drafts`, one for each prompt, are another model's answers: a source says in one call how far it agrees.
    `folder` has a tokenizer and settings for a source that brings none.
    """
    if isinstance(side, PackageSide):
        return side.package.completions(prompts, max_new_tokens=NEW_TOKENS)
    reader = _Reader(side, folder)
    return [reader.answer(prompt, draft.tokens) for prompt, draft in zip(prompts, drafts, strict=True)]


class _Reader:
    """A source that generates, with the tokenizer in `folder`."""

    def __init__(self, side: SourceSide, folder: Path) -> None:
        self._model, self._inputs, self._states = side.model, side.interface.inputs, side.states
        self._tokenizer, self._context = Tokenizer(folder), context_length(folder) or sys.maxsize
        self._said = GenerationConfig.of(side.folder or folder, "config.json", "generation_config.json")
        ends = self._said.eos_token_id
        self._ends = frozenset([ends] if isinstance(ends, int) else ends or [])

    def answer(self, prompt: str, draft: Sequence[int]) -> Completion:
        tokens = self._tokenizer.opened(prompt)
        steps = self._steps(tokens, draft)
        return Answer(
            steps, self._tokenizer, self._ends, prompt=len(tokens), stop=self._said.stops
        ).completion()

    def _steps(self, prompt: list[int], draft: Sequence[int]) -> Steps:
        """Tokens after `prompt`: those of `draft` up to the first that is another, then one a call."""
        longest = min(len(prompt) + NEW_TOKENS, self._context)
        rules = TokenRules(self._said, self._ends, prompt=len(prompt), longest=longest)
        text = [*prompt, *draft][: longest - 1]
        rows = self._logits(text, {})[0][len(prompt) - 1 :]
        chosen = rules(rows, text).argmax(-1)
        count = 0
        while count < len(chosen) and (count == 0 or chosen[count - 1] == text[len(prompt) + count - 1]):
            yield int(chosen[count]), rows[count]
            count += 1
        text = [*prompt, *map(int, chosen[:count])]
        past: dict[str, NDArray[Any]] = {}
        while len(text) < longest:
            rows, past = self._logits(text, past)
            token = int(rules(rows[-1:], text)[0].argmax())
            yield token, rows[-1]
            text.append(token)

    def _logits(
        self, text: Sequence[int], past: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Logits [S, vocabulary] of the tokens that `past` has not seen, and the states behind them."""
        tokens = np.asarray(text, np.int64)
        feeds = whole_sequence(self._inputs, tokens, self._states)
        if past:
            last = {"input_ids", "position_ids"} & feeds.keys()
            feeds |= {name: feeds[name][:, -1:] for name in last} | dict(past)
        results = self._model(feeds)
        states = {name: np.asarray(results[present]) for name, present in self._states.items()}
        return np.asarray(results["logits"])[0], states


def generated(prompt: str, reference: Completion, answer: Completion, tokenizer: Tokenizer) -> Generated:
    """What there is to show of the two."""
    agreed = _agreed(reference.tokens, answer.tokens)
    shared = "".join(tokenizer.pieces().of(answer.tokens[:agreed]))
    return Generated(
        prompt,
        reference.text,
        answer.text,
        len(reference.tokens),
        len(answer.tokens),
        agreed,
        min(len(shared), len(answer.text)),
    )


def agreement(reference: Completion, answer: Completion) -> NDArray[np.float64]:
    """For each token of the longer of the two, its end included, 1 where all up to it are equal, else 0."""
    one, other = _with_end(reference), _with_end(answer)
    longer = max(len(one), len(other))
    return (np.arange(longer) < _agreed(one, other)).astype(np.float64)


def length_shares(reference: Completion, answer: Completion) -> NDArray[np.float64]:
    """For each token of the longer of the two, its end included, 1 where the shorter has one too, else 0."""
    lengths = len(_with_end(reference)), len(_with_end(answer))
    return (np.arange(max(lengths)) < min(lengths)).astype(np.float64)


def _with_end(completion: Completion) -> tuple[int, ...]:
    return (*completion.tokens, END) if completion.finish_reason == "stop" else completion.tokens


def _agreed(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
