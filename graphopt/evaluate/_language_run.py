"""Language models beside their reference on text: as much of it as is asked for, and then more."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphopt.evaluate._corpus import Corpus, Window, windows
from graphopt.evaluate._found import Found, scope_of, share_of
from graphopt.evaluate._generations import (
    PROMPT_TOKENS,
    agreement,
    answers,
    generated,
    length_shares,
)
from graphopt.evaluate._measured import TIE
from graphopt.evaluate._padding import BATCHES, ROWS, cut, padded, sides_of_padding
from graphopt.evaluate._samples import Generated
from graphopt.evaluate._sides import PackageSide, Side
from graphopt.evaluate._tokens import TokenValues, compare_tokens
from graphopt.metrics import Documents, Exact, Sample, Statistic, scaled_difference, top1_mismatches
from graphopt.runtime import Tokenizer, context_length

__all__ = ["LANGUAGE_METRICS", "LanguageRun"]

Floats = NDArray[np.float64]

_OF_TOKENS: dict[str, tuple[Callable[[TokenValues], Floats], Statistic]] = {
    "perplexity": (lambda one: one.loss, "exp_mean"),
    "perplexity_ratio": (lambda one: one.excess, "exp_mean"),
    "kl_mean": (lambda one: one.divergence, "mean"),
    "kl_p99": (lambda one: one.divergence, "p99"),
    "top1_agreement": (lambda one: one.agreement, "mean"),
    "flips_lost": (lambda one: one.reference_right * (1 - one.right), "mean"),
    "flips_won": (lambda one: (1 - one.reference_right) * one.right, "mean"),
}
_EXACT = ("scaled_difference", "top1_mismatches")
_GENERATED = ("greedy_agreement", "length_ratio")
_PADDED = "padded_kl_mean"
LANGUAGE_METRICS = frozenset((*_OF_TOKENS, *_EXACT, *_GENERATED, _PADDED))
"""What can be measured of a causal language model beside a reference."""

PROMPTS = 24
"""At least: an answer that is cut short is then told from chance, whatever little text is measured."""
TOKENS_A_PROMPT = 1024
"""A prompt takes as long as hundreds of tokens of text: beyond the first 24 there is one for so many."""
TOKENS_A_BATCH = 2048
"""A padded batch has 192 tokens on either side: a fifth of what is measured, beyond the first 11."""


class LanguageRun:
    """`sides` (a package, and its baseline if there is one) beside `reference` on the text of `corpus`.

    `part` (i, n): of what each extension asks for only the share i, from 0, of n; shares follow each other.
    """

    def __init__(
        self,
        sides: Sequence[PackageSide],
        reference: Side,
        corpus: Corpus,
        metrics: Collection[str],
        say: Callable[[str], None],
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self._sides, self._reference, self._metrics, self._say = sides, reference, metrics, say
        self._domains = corpus.domains
        self._folder: Path = sides[0].package.path
        self._tokenizer = Tokenizer(self._folder)
        contexts = [length for side in sides if (length := context_length(side.package.path)) is not None]
        self._part = part
        found = (windows(corpus, self._tokenizer, min(contexts, default=None)) for _ in range(2))
        self._windows, self._ahead = found
        self._texts: list[Window] = []
        self._tokens: dict[str, Found] = {key: Found() for key in _OF_TOKENS if key in metrics}
        self._largest: dict[str, list[float]] = {key: [0.0] * len(sides) for key in _EXACT if key in metrics}
        self._padded, self._batches, self._prompts = Found(), 0, 0
        self._generated: dict[str, Found] = {key: Found() for key in _GENERATED if key in metrics}
        self.generations: list[Generated] = []
        self.tokens = 0
        """How many there are in all parts."""
        self.exhausted = False
        """Whether there is no more text."""

    def extend(self, tokens: int) -> None:
        """Measure on at least so many more tokens, as far as there are any, in whole windows."""
        done, end = self.tokens, self.tokens + tokens
        ahead = self._next(end)
        for window in share_of(ahead, self._part) if self._tokens or self._largest else ():
            done += len(window.tokens)
            self._say(f"text: {done:,} of {end:,} tokens")
            self._measure(window)
        if _PADDED in self._metrics:
            self._say("padded batches")
            self._pad()
        if self._generated:
            self._say("answers")
            self._generate()

    def _next(self, end: int) -> list[Window]:
        """The windows up to token `end`, which are of all parts."""
        found: list[Window] = []
        while self.tokens < end:
            window = next(self._windows, None)
            if window is None:
                self.exhausted = True
                break
            self.tokens += len(window.tokens)
            found.append(window)
        return found

    def samples(self) -> Iterator[Sample]:
        """What was found so far, by metric, and again for each domain."""
        for domain in (None, *self._domains):
            scope = scope_of("", domain)
            for key, found in self._tokens.items():
                yield from _sample(key, found.of(domain, _OF_TOKENS[key][1]), scope)
            for key, found in self._generated.items():
                yield from _sample(key, found.of(domain, "mean"), scope)
            yield from _sample(_PADDED, self._padded.of(domain, "mean"), scope)
        for key, (value, *baseline) in self._largest.items():
            yield Sample(key, Exact(value, baseline[0] if baseline else None))

    def _measure(self, window: Window) -> None:
        expected = self._reference.logits(window.tokens)
        results = [
            expected if side is self._reference else side.logits(window.tokens) for side in self._sides
        ]
        for key, values in self._largest.items():
            for i, got in enumerate(results):
                if key == "top1_mismatches":
                    values[i] += top1_mismatches(expected, got, TIE)
                else:
                    values[i] = max(values[i], scaled_difference(expected, got))
        if self._tokens:
            compared = compare_tokens(results, expected, window.tokens)
            for key, found in self._tokens.items():
                found.add(window, [_OF_TOKENS[key][0](one) for one in compared])

    def _first(self, count: int) -> list[Window]:
        """The first `count` windows of the data, measured or not, as far as there are any."""
        self._texts += itertools.islice(self._ahead, max(0, count - len(self._texts)))
        return self._texts[:count]

    def _pad(self) -> None:
        """Batches of beginnings of the windows: 11, and more where the tokens so far ask for them."""
        specs = [spec for side in self._sides for spec in side.package.manifest.graphs["model"].past()]
        allowed = [assumption for side in self._sides for assumption in side.package.assumptions()]
        paddings = sides_of_padding(allowed, specs)
        texts = self._first(ROWS * max(BATCHES, self.tokens // TOKENS_A_BATCH))
        wanted = len(texts) // ROWS
        for number in share_of(range(self._batches, wanted), self._part):
            group = texts[number * ROWS : (number + 1) * ROWS]
            rows = cut([window.tokens for window in group])
            for padding in paddings:
                tokens, mask = padded(rows, padding)
                expected, *results = (side.batched(tokens, mask) for side in (self._reference, *self._sides))
                for i, (window, row) in enumerate(zip(group, rows, strict=True)):
                    if len(row) < tokens.shape[1]:
                        real = mask[i] != 0
                        compared = compare_tokens([got[i][real] for got in results], expected[i][real], row)
                        self._padded.add(window, [one.divergence for one in compared])
        self._batches = max(self._batches, wanted)

    def _generate(self) -> None:
        """Answers to beginnings of the windows: 24, and more where the tokens so far ask for them."""
        texts = self._first(max(PROMPTS, self.tokens // TOKENS_A_PROMPT))
        chosen = share_of(texts[self._prompts :], self._part)
        self._prompts = len(texts)
        opening = len(self._tokenizer.opening())
        prompts = [self._text(window.tokens[opening : opening + PROMPT_TOKENS]) for window in chosen]
        own, *baseline = [answers(side, prompts, (), self._folder) for side in self._sides]
        expected = answers(self._reference, prompts, own, self._folder)
        for i, (window, prompt) in enumerate(zip(chosen, prompts, strict=True)):
            self.generations.append(generated(prompt, expected[i], own[i], self._tokenizer))
            for key, count in (("greedy_agreement", agreement), ("length_ratio", length_shares)):
                if key in self._generated:
                    values = [count(expected[i], some[i]) for some in (own, *baseline)]
                    self._generated[key].add(window, values)

    def _text(self, tokens: NDArray[np.int64]) -> str:
        return "".join(self._tokenizer.pieces().of(tokens.tolist()))


def _sample(metric: str, found: Documents | None, scope: str) -> Iterator[Sample]:
    if found is not None:
        yield Sample(metric, found, scope)
