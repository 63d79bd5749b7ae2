"""Language models beside their reference on text: as much of it as is asked for, and then more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphopt.evaluate._corpus import Corpus, Window, windows
from graphopt.evaluate._generations import (
    PROMPT_TOKENS,
    agreement,
    answers,
    generated,
    length_shares,
)
from graphopt.evaluate._padding import ROWS, cut, padded, sides_of_padding
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

TIE = 2e-3
"""Standard deviations of the logits by which a lossless package may swap two tokens: docs/architecture.md
allows each to be off by half of it."""
TOKENS_A_PROMPT = 1024
"""A prompt takes a hundred times what a token of text takes: so many of 16,384 tokens are seconds."""
TOKENS_A_BATCH = 4096
"""A padded batch is run twice, and the reference on each of its rows: a tenth of what is measured."""


@dataclass
class _Found:
    """Values of both sides, or of one, by what they are of."""

    documents: list[Window] = field(default_factory=list)
    values: list[list[Floats]] = field(default_factory=list)

    def add(self, window: Window, values: Sequence[Floats]) -> None:
        self.documents.append(window)
        self.values.append(list(values))

    def of(self, domain: str | None, statistic: Statistic) -> Documents | None:
        """By document, those of `domain` alone if one is given; None where there are none."""
        groups: dict[str, list[list[Floats]]] = {}
        for window, values in zip(self.documents, self.values, strict=True):
            if domain is None or window.domain == domain:
                groups.setdefault(window.document, []).append(values)
        if not groups:
            return None
        joined = [[np.concatenate(parts) for parts in zip(*group, strict=True)] for group in groups.values()]
        own, *baseline = map(tuple, zip(*joined, strict=True))
        return Documents(own, baseline[0] if baseline else None, statistic, tuple(groups))


class LanguageRun:
    """`sides` (a package, and its baseline if there is one) beside `reference` on the text of `corpus`."""

    def __init__(
        self,
        sides: Sequence[PackageSide],
        reference: Side,
        corpus: Corpus,
        metrics: Collection[str],
        say: Callable[[str], None],
    ) -> None:
        self._sides, self._reference, self._metrics, self._say = sides, reference, metrics, say
        self._domains = corpus.domains
        self._folder: Path = sides[0].package.path
        self._tokenizer = Tokenizer(self._folder)
        contexts = [length for side in sides if (length := context_length(side.package.path)) is not None]
        self._windows = windows(corpus, self._tokenizer, min(contexts, default=None))
        self._used: list[Window] = []
        self._tokens: dict[str, _Found] = {key: _Found() for key in _OF_TOKENS if key in metrics}
        self._largest: dict[str, list[float]] = {key: [0.0] * len(sides) for key in _EXACT if key in metrics}
        self._padded, self._batches = _Found(), 0
        self._generated: dict[str, _Found] = {key: _Found() for key in _GENERATED if key in metrics}
        self.generations: list[Generated] = []
        self.tokens = 0
        self.exhausted = False
        """Whether there is no more text."""

    def extend(self, tokens: int) -> None:
        """Measure on so many more tokens, as far as there are any."""
        end = self.tokens + tokens
        while self.tokens < end:
            window = next(self._windows, None)
            if window is None:
                self.exhausted = True
                break
            window = Window(window.document, window.domain, window.tokens[: end - self.tokens + 1])
            self._used.append(window)
            self.tokens += len(window.tokens)
            if self._tokens or self._largest:
                self._say(f"text: {self.tokens:,} of {end:,} tokens")
                self._measure(window)
        if _PADDED in self._metrics:
            self._say("padded batches")
            self._pad()
        if self._generated:
            self._say("answers")
            self._generate()

    def samples(self) -> Iterator[Sample]:
        """What was found so far, by metric, and again for each domain."""
        for domain in (None, *self._domains):
            scope = "" if domain is None else f"domain {domain or 'none'}"
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

    def _pad(self) -> None:
        """Batches of beginnings of the windows, as many as the tokens so far ask for."""
        specs = [spec for side in self._sides for spec in side.package.manifest.graphs["model"].past()]
        allowed = [assumption for side in self._sides for assumption in side.package.assumptions()]
        paddings = sides_of_padding(allowed, specs)
        wanted = min(max(1, self.tokens // TOKENS_A_BATCH), len(self._used) // ROWS)
        for number in range(self._batches, wanted):
            group = self._used[number * ROWS : (number + 1) * ROWS]
            rows = cut([window.tokens for window in group])
            expected = [self._reference.logits(row) for row in rows]
            for padding in paddings:
                tokens, mask = padded(rows, padding)
                results = [side.batched(tokens, mask) for side in self._sides]
                for i, (window, row) in enumerate(zip(group, rows, strict=True)):
                    if len(row) < tokens.shape[1]:
                        real = [result[i][mask[i] != 0] for result in results]
                        compared = compare_tokens(real, expected[i], row)
                        self._padded.add(window, [one.divergence for one in compared])
        self._batches = max(self._batches, wanted)

    def _generate(self) -> None:
        """Answers to beginnings of the windows, as many as the tokens so far ask for."""
        wanted = max(1, self.tokens // TOKENS_A_PROMPT)
        chosen = self._used[len(self.generations) : wanted]
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
