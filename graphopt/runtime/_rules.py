"""What a model's generation settings make of logits before a token is chosen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from graphopt.runtime._given import GenerationConfig, ids

__all__ = ["TokenRules"]

Row = NDArray[np.float32]
Text = NDArray[np.int64]
Rule = Callable[[Row, Text], None]


class TokenRules:
    """The logits processors of transformers' `generate` that `said` asks for, in its order and arithmetic.

    `ends` are the tokens that end the text, `prompt` is how many tokens it opens with, and `longest` how many
    it has at most. Tokens beyond the vocabulary count nothing. Beams, guidance and penalties of the encoder's
    text are not among them.
    """

    def __init__(
        self, said: GenerationConfig, ends: Collection[int] = (), *, prompt: int, longest: int
    ) -> None:
        last = sorted(ends)
        biases = {tuple(tokens): bias for tokens, bias in said.sequence_bias}
        bad = {tuple(words): -np.inf for words in said.bad_words_ids if words not in [[end] for end in last]}
        least = max(said.min_length or 0, prompt + (said.min_new_tokens or 0))
        begin = prompt + (prompt <= 1 and said.forced_bos_token_id is not None)
        found: list[Rule | None] = [
            _bias(biases) if biases else None,
            _repetition(penalty) if (penalty := said.repetition_penalty or 1.0) != 1.0 else None,
            _no_repeat(said.no_repeat_ngram_size) if said.no_repeat_ngram_size else None,
            _bias(bad) if bad else None,
            _never(last, lambda n: n < least) if least > prompt else None,
            _only(ids(said.forced_bos_token_id), 1) if said.forced_bos_token_id is not None else None,
            _only(ids(said.forced_eos_token_id), longest - 1)
            if said.forced_eos_token_id is not None
            else None,
            _finite if said.remove_invalid_values else None,
            _decay(last, prompt, *said.exponential_decay_length_penalty)
            if said.exponential_decay_length_penalty
            else None,
            _never(said.suppress_tokens, lambda n: True) if said.suppress_tokens else None,
            _never(said.begin_suppress_tokens, lambda n: n == begin) if said.begin_suppress_tokens else None,
        ]
        self._rules = [rule for rule in found if rule is not None]

    def __call__(self, logits: NDArray[np.floating], text: Sequence[int]) -> NDArray[np.floating]:
        """Scores [S, vocabulary] from logits; the last row follows `text`, each above it one token less."""
        if not self._rules:
            return logits
        scores, tokens = np.array(logits, np.float32), np.asarray(text, np.int64)
        lengths = range(len(text) - len(scores) + 1, len(text) + 1)
        with np.errstate(over="ignore", invalid="ignore"):  # infinities are as good as any number
            for row, length in zip(scores, lengths, strict=True):
                for rule in self._rules:
                    rule(row, tokens[:length])
        return scores


def _known(tokens: Sequence[int] | Text, row: Row) -> Text:
    found = np.unique(np.asarray(tokens, np.int64))
    return found[(found >= 0) & (found < len(row))]


def _bias(biases: dict[tuple[int, ...], float]) -> Rule:
    """Add to the logit of each sequence's last token where the text ends with what is before it."""

    def rule(row: Row, text: Text) -> None:
        for (*before, token), bias in biases.items():
            if 0 <= token < len(row) and text[len(text) - len(before) :].tolist() == before:
                row[token] += bias

    return rule


def _repetition(penalty: float) -> Rule:
    def rule(row: Row, text: Text) -> None:
        seen = _known(text, row)
        row[seen] = np.where(row[seen] < 0, row[seen] * penalty, row[seen] / penalty)

    return rule


def _no_repeat(size: int) -> Rule:
    """No `size` tokens in a row stand twice in the text."""

    def rule(row: Row, text: Text) -> None:
        if len(text) >= size:
            windows = np.lib.stride_tricks.sliding_window_view(text, size)
            again = (windows[:, :-1] == text[len(text) + 1 - size :]).all(1)
            row[_known(windows[again, -1], row)] = -np.inf

    return rule


def _never(tokens: Sequence[int], at: Callable[[int], bool]) -> Rule:
    def rule(row: Row, text: Text) -> None:
        if at(len(text)):
            row[_known(tokens, row)] = -np.inf

    return rule


def _only(tokens: Sequence[int], at: int) -> Rule:
    def rule(row: Row, text: Text) -> None:
        if len(text) == at:
            row[:] = -np.inf
            row[_known(tokens, row)] = 0

    return rule


def _finite(row: Row, text: Text) -> None:
    np.nan_to_num(row, copy=False)


def _decay(ends: Sequence[int], prompt: int, start: int, factor: float) -> Rule:
    """Past `start` new tokens an end becomes likelier with each."""

    def rule(row: Row, text: Text) -> None:
        late = len(text) - prompt - start
        if late > 0:
            tokens = _known(ends, row)
            more = np.abs(row[tokens]) * (factor**late - 1)
            row[tokens] += np.where(np.isfinite(row[tokens]), more, 0)

    return rule
