"""Prompt-lookup decoding: drafts come from the text itself, and one call checks all their tokens.

Speculative decoding with the text's own n-grams for a draft model (Saxena 2023, prompt-lookup-decoding);
docs/decisions/speculation.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.runtime._decode import Decoder
from graphopt.runtime._sampling import Choice

__all__ = ["Costs", "Guess", "PromptLookup", "Speculation", "best_length"]

_LONGEST_MATCH = 4  # tokens; a judgement: a longer n-gram is rarely met again, and each length costs a table
_LONGEST_DRAFT = 15  # a judgement: longer drafts seldom come true whole, and costs of each length are learned
_UNLIKELY = 0.05  # a token that comes true once in twenty times costs more rows than it saves calls
_HOPEFUL = 0.05  # what a further row is taken to cost, in calls, until it was measured: little, so that it is
_PRIOR_WEIGHT = 3.0  # guesses that outweigh the prior: a few, so that a new text is soon believed
_FORGETTING = 0.98  # a guess counts half after 34 more of its kind: texts change on the scale of a paragraph
_SMOOTHING = 0.2  # of a new time of a call: five calls outlast a disturbance, ten a change of length


@dataclass(frozen=True)
class Guess:
    """A next token, and how likely it is, as guesses of its `kind` came true of late.

    A kind is how many tokens matched, and whether all, most or fewer of the earlier places went on so.
    """

    token: int
    kind: tuple[int, int]
    trust: float


class PromptLookup:
    """Drafts of what followed the places where a text's last tokens, as many as 4, stood before (n-grams)."""

    def __init__(self) -> None:
        self._last: list[int] = []
        self._follows: dict[tuple[int, ...], dict[int, int]] = {}
        self._right: dict[tuple[int, int], float] = {}
        self._tried: dict[tuple[int, int], float] = {}

    def extend(self, tokens: Sequence[int]) -> None:
        """The text goes on with `tokens`."""
        for token in tokens:
            for n in range(1, len(self._last) + 1):
                counts = self._follows.setdefault(tuple(self._last[-n:]), {})
                counts[token] = counts.pop(token, 0) + 1  # the latest comes last
            self._last = [*self._last, token][-_LONGEST_MATCH:]

    def draft(self, limit: int) -> list[Guess]:
        """Guesses of the next tokens, each after those before it, while there are any that are likely."""
        found: list[Guess] = []
        context, likely = self._last, 1.0
        while len(found) < limit and likely >= _UNLIKELY:
            guess = self._after(context)
            if guess is None:
                break
            found.append(guess)
            likely *= guess.trust
            context = [*context, guess.token][-_LONGEST_MATCH:]
        return found

    def learn(self, guess: Guess, right: bool) -> None:
        """Whether `guess` came true."""
        kind = guess.kind
        self._right[kind] = self._right.get(kind, 0.0) * _FORGETTING + right
        self._tried[kind] = self._tried.get(kind, 0.0) * _FORGETTING + 1

    def _after(self, context: Sequence[int]) -> Guess | None:
        """What most often followed the longest part of `context` that stood before, the latest of equals."""
        for n in range(len(context), 0, -1):
            counts = self._follows.get(tuple(context[-n:]))
            if counts:
                token = max(reversed(counts), key=counts.__getitem__)
                share = counts[token] / sum(counts.values())
                kind = (n, 0 if share == 1 else 1 if share >= 0.5 else 2)
                return Guess(token, kind, self._trust(kind))
        return None

    def _trust(self, kind: tuple[int, int]) -> float:
        n, doubt = kind
        prior = (0.25 + 0.12 * n) * (1.1, 0.7, 0.4)[doubt]
        right = self._right.get(kind, 0.0) + prior * _PRIOR_WEIGHT
        return right / (self._tried.get(kind, 0.0) + _PRIOR_WEIGHT)


class Costs:
    """Seconds that a call takes by how many tokens it has, as observed; hopeful about what was not tried."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    def observe(self, tokens: int, seconds: float) -> None:
        old = self._seen.get(tokens)
        self._seen[tokens] = seconds if old is None else old + _SMOOTHING * (seconds - old)

    def relative(self, count: int) -> list[float]:
        """For 1, 2, ... `count` tokens, in units of one token's."""
        if 1 not in self._seen:
            return [1 + _HOPEFUL * m for m in range(count)]
        one = self._seen[1]
        return [self._seen.get(m + 1, one * (1 + _HOPEFUL * m)) / one for m in range(count)]


def best_length(trusts: Sequence[float], costs: Sequence[float]) -> int:
    """How many tokens to draft for the most text a second; `costs[m]` is that of a call with m of them.

    A drafted token counts where all before it are right; `trusts` are the chances of each. One comes free.
    """
    likely = expected = 1.0
    best, length = expected / costs[0], 0
    for m, trust in enumerate(trusts, start=1):
        likely *= trust
        expected += likely
        if expected / costs[m] > best:
            best, length = expected / costs[m], m
    return length


class Speculation:
    """Prompt-lookup decoding with `decoder`: one token at least and often several a call.

    `choose` picks tokens int64[S] from logits [S, vocabulary] and the text before the last of them; the
    likeliest ones if not given. The text is what plain decoding with `choose` gives, but where two tokens are
    as likely but for rounding: kernels sum in another order for several rows than for one. A draft has
    `longest` tokens at most; with 0 it is plain decoding.
    """

    def __init__(
        self, decoder: Decoder, choose: Choice | None = None, *, longest: int = _LONGEST_DRAFT
    ) -> None:
        self._decoder = decoder
        self._longest = longest
        self._choose = choose or (lambda logits, text: logits.argmax(-1))
        self._lookup = PromptLookup()
        self._costs = Costs()
        self._text: list[int] = []
        self.calls = 0
        """Calls of the model after the prompt's."""

    def tokens(self, prompt: Sequence[int], limit: int) -> Iterator[int]:
        """At most `limit` tokens that follow `prompt`."""
        return (token for token, _ in self.steps(prompt, limit))

    def steps(self, prompt: Sequence[int], limit: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """The same, each with the logits [vocabulary] that it was chosen by, which last until the next is
        asked for."""
        self._extend(prompt)
        logits = self._decoder.append(np.asarray(prompt), keep=1)[0]
        made = self._chosen(logits)
        left = limit
        while left > 0:
            self._extend(made)
            yield from zip(made[:left], logits, strict=False)
            left -= len(made)
            if left > 0:
                made, logits = self._step(made[-1], left - 1)

    def _step(self, token: int, room: int) -> tuple[list[int], NDArray[Any]]:
        """Tokens after `token`, the text's last one: those of the draft that are right, and one more."""
        room = min(self._longest, room, self._decoder.room)
        guesses = self._lookup.draft(room) if room > 0 else []
        costs = self._costs.relative(1 + len(guesses))
        draft = [g.token for g in guesses[: best_length([g.trust for g in guesses], costs)]]
        started = time.perf_counter()
        logits = self._decoder.append(np.asarray([token, *draft]), keep=1 + len(draft))[0]
        self._text += draft
        chosen = self._chosen(logits)
        del self._text[len(self._text) - len(draft) :]
        self._costs.observe(1 + len(draft), time.perf_counter() - started)
        self.calls += 1
        right = next((i for i, t in enumerate(draft) if t != chosen[i]), len(draft))
        self._decoder.rewind(self._decoder.length - len(draft) + right)
        # What was not worth drafting teaches too, as far as it was decided.
        for guess, made in zip(guesses, chosen[: right + 1], strict=False):
            self._lookup.learn(guess, guess.token == made)
        return chosen[: right + 1], logits

    def _extend(self, tokens: Sequence[int]) -> None:
        self._text += tokens
        if self._longest:
            self._lookup.extend(tokens)

    def _chosen(self, logits: NDArray[Any]) -> list[int]:
        return [int(token) for token in self._choose(logits, self._text)]
