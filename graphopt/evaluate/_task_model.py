"""A language model as tasks ask it: how likely a text goes on so, how likely it is, and what comes next."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.evaluate._logits import Logits
from graphopt.evaluate._sides import PackageSide, Side
from graphopt.metrics import log_softmax
from graphopt.package import Answers
from graphopt.runtime import Answer, GenerationConfig, Tokenizer, context_length

__all__ = ["TaskModel"]

_NEW_TOKENS = 256
"""Of an answer where a task does not say: lm-eval's own default."""


class TaskModel:
    """`side` with the tokenizer and the settings in `folder`.

    Texts begin as the model expects a text to begin. Where that is with nothing, an empty context is the
    token that ends a text, as in lm-eval.
    """

    def __init__(self, side: Side, folder: Path) -> None:
        self._logits: Logits = side.logits
        self._tokenizer = Tokenizer(folder)
        self._context = context_length(folder) or sys.maxsize
        said = GenerationConfig.of(folder, "config.json", "generation_config.json", "genai_config.json")
        ends = said.eos_token_id
        self._ends = [ends] if isinstance(ends, int) else ends or []
        self._answers = Answers(side.package) if isinstance(side, PackageSide) else None

    def continuation(self, context: str, text: str) -> tuple[float, bool]:
        """The log-likelihood in nats of `text` after `context`, and whether each token is the likeliest.

        Spaces at the end of `context` are counted to `text`, and both are tokenized together. What is longer
        than the model's context loses its beginning.
        """
        bare = context.rstrip()
        text = context[len(bare) :] + text
        before = self._tokenizer.opened(bare) if bare else [self._prefix()]
        whole = self._tokenizer.opened(bare + text) if bare else before + self._tokenizer.plain(text)
        count = len(whole) - len(before)
        if count <= 0:
            raise BadInput(f"{text!r} is no more tokens after {bare[-40:]!r}: its likelihood is not defined")
        return self._score(whole[-(self._context + 1) :], min(count, self._context))

    def whole(self, text: str) -> float:
        """The log-likelihood in nats of `text` from its first token on.

        In windows of the model's context without overlap; all but the first begin with the last token before.
        """
        tokens = self._tokenizer.plain(text)
        given = [self._prefix(), *tokens]
        longest = min(self._context, len(tokens))
        total = 0.0
        for end in range(longest, len(tokens) + longest, longest or 1):
            end = min(end, len(tokens))
            count = longest if end % longest == 0 else end % longest
            total += self._score(given[max(0, end - longest) : end + 1], count)[0]
        return total

    def answer(self, prompt: str, *, stop: Sequence[str] = (), max_new_tokens: int = _NEW_TOKENS) -> str:
        """The likeliest text after `prompt`, up to the first string of `stop` or the model's own end."""
        if self._answers is not None:
            return self._answers(prompt, max_new_tokens=max_new_tokens, stop=stop).completion().text
        tokens = self._tokenizer.prompt(prompt, self._context)
        steps = self._steps(tokens, min(max_new_tokens, self._context - len(tokens)))
        return Answer(steps, self._tokenizer, self._ends, prompt=len(tokens), stop=stop).completion().text

    def _prefix(self) -> int:
        opening = self._tokenizer.opening() or self._ends
        if not opening:
            raise BadInput(
                "the model has no token that begins or ends a text: nothing can stand for an empty context",
                hint="Set eos_token_id in its generation_config.json.",
            )
        return opening[-1]

    def _score(self, tokens: Sequence[int], count: int) -> tuple[float, bool]:
        """Of the last `count` of `tokens`, each after all those before it."""
        rows = log_softmax(self._logits(np.asarray(tokens[:-1], np.int64))[-count:])
        last = np.asarray(tokens[-count:], np.int64)
        chosen = rows[np.arange(count), last]
        likely = bool((rows.argmax(-1) == last).all())
        return (float(chosen.sum()), likely) if np.isfinite(rows).all() else (-np.inf, False)

    def _steps(self, tokens: list[int], count: int) -> Iterator[tuple[int, NDArray[Any]]]:
        tokens = [*tokens]
        for _ in range(count):
            row = self._logits(np.asarray(tokens, np.int64))[-1]
            tokens.append(int(row.argmax()))
            yield tokens[-1], row
