"""Models that generate no text beside their reference, output by output."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.evaluate._calls import Call, text_feeds
from graphopt.evaluate._corpus import Window
from graphopt.evaluate._found import Found, scope_of, share_of
from graphopt.evaluate._measured import COUNTED, LARGEST, row_cosines
from graphopt.evaluate._padding import BATCHES, ROWS, padded, sides_of_padding
from graphopt.evaluate._samples import Generated
from graphopt.evaluate._sides import PackageSide, Side
from graphopt.interface import Arrays
from graphopt.io import parts_of
from graphopt.metrics import Exact, Sample

__all__ = ["ENCODER_METRICS", "EncoderRun"]

Array = NDArray[Any]

LINES = 256
"""At most, each time: cosines hardly differ between lines, and each is a call of every model."""
LINES_A_BATCH = 32
"""A padded batch has four: an eighth of what is measured is measured again, beyond the first 11 batches."""
LOGITS = "logits"
_COSINES = ("cosine_mean", "cosine_min")
_PADDED = "padded_cosine_min"
ENCODER_METRICS = frozenset((*_COSINES, *LARGEST, *COUNTED, _PADDED))
"""What can be measured of a model that generates no text beside a reference."""


class EncoderRun:
    """`sides` (a package, and its baseline if there is one) beside `reference`, call by call.

    `part` (i, n): of what each extension asks for only the share i, from 0, of n; shares follow each other.
    """

    generations: Sequence[Generated] = ()

    def __init__(
        self,
        sides: Sequence[PackageSide],
        reference: Side,
        calls: Iterator[Call],
        domains: Sequence[str],
        metrics: Collection[str],
        say: Callable[[str], None],
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self._sides, self._reference, self._calls, self._say = sides, reference, calls, say
        self._part = part
        self._metrics, self._domains = frozenset(metrics), domains
        self._interface = sides[0].interface
        self._cosines: dict[str, Found] = {}
        self._padded: dict[str, Found] = {}
        self._exact: dict[tuple[str, str], list[float]] = {}
        self._texts: list[Window] = []
        self._batches = 0
        if _PADDED in metrics:
            self._paddings = sides_of_padding(a for side in sides for a in side.package.assumptions())
            mask = self._interface.input("attention_mask")
            if mask is None or not self._paddings:
                raise BadInput(f"{sides[0].name} takes no padded texts: {_PADDED} cannot be measured")
            self._batch_dims = mask.dims
        self.tokens = 0
        """How many there are in all parts."""
        self.exhausted = False
        """Whether there are no more calls."""

    def extend(self, tokens: int) -> None:
        """Measure calls of so many more tokens, 256 at most; all where they are no text."""
        done, end = self.tokens, self.tokens + tokens
        for call in share_of(self._next(end), self._part):
            done += len(call.window.tokens)
            if len(call.window.tokens):
                self._say(f"text: {done:,} of {end:,} tokens")
            self._measure(call)
        if _PADDED in self._metrics:
            self._say("padded batches")
            self._pad()

    def _next(self, end: int) -> list[Call]:
        """The calls up to token `end`, which are of all parts."""
        found: list[Call] = []
        last = len(self._texts) + LINES
        while self.tokens < end and len(self._texts) < last:
            call = next(self._calls, None)
            if call is None:
                self.exhausted = True
                break
            self.tokens += len(call.window.tokens)
            if len(call.window.tokens):
                self._texts.append(call.window)
            found.append(call)
        return found

    def samples(self) -> Iterator[Sample]:
        """What was found so far, by metric and output, and again for each domain."""
        for domain in (None, *self._domains):
            for output, found in self._cosines.items():
                scope = scope_of(output if len(self._cosines) > 1 else "", domain)
                documents, lowest = found.of(domain, "mean"), found.lowest(domain)
                if documents is not None and "cosine_mean" in self._metrics:
                    yield Sample("cosine_mean", documents, scope)
                if documents is not None and "cosine_min" in self._metrics:
                    yield Sample("cosine_min", _exact(lowest), scope)
            for output, found in self._padded.items():
                scope = scope_of(output if len(self._padded) > 1 else "", domain)
                if lowest := found.lowest(domain):
                    yield Sample(_PADDED, _exact(lowest), scope)
        for (key, output), values in self._exact.items():
            others = sum(metric == key for metric, _ in self._exact) > 1
            yield Sample(key, _exact(values), output if others else "")

    def _measure(self, call: Call) -> None:
        expected = self._reference.model(call.feeds)
        results = [expected if side is self._reference else side.model(call.feeds) for side in self._sides]
        for name, value, got in _pairs(expected, results):
            is_float = np.issubdtype(value.dtype, np.floating)
            if is_float and value.ndim and not self._metrics.isdisjoint(_COSINES):
                rows = [row_cosines(value, other) for other in got]
                self._cosines.setdefault(name, Found()).add(call.window, rows)
            for key in self._metrics:
                if key in LARGEST and is_float:
                    found = self._exact.setdefault((key, name), [0.0] * len(got))
                    found[:] = [max(a, LARGEST[key](value, b)) for a, b in zip(found, got, strict=True)]
                elif key in COUNTED and (name == LOGITS if key == "top1_mismatches" else not is_float):
                    found = self._exact.setdefault((key, name), [0.0] * len(got))
                    found[:] = [a + COUNTED[key](value, b) for a, b in zip(found, got, strict=True)]

    def _pad(self) -> None:
        """Batches of texts, as many as the texts so far ask for."""
        wanted = min(max(BATCHES, len(self._texts) // LINES_A_BATCH), len(self._texts) // ROWS)
        for number in share_of(range(self._batches, wanted), self._part):
            group = self._texts[number * ROWS : (number + 1) * ROWS]
            for padding in self._paddings:
                tokens, mask = padded([window.tokens for window in group], padding)
                feeds = text_feeds(self._interface, tokens, mask)
                expected, *results = (side.model(feeds) for side in (self._reference, *self._sides))
                for name, value, got in _pairs(expected, results):
                    if np.issubdtype(value.dtype, np.floating):
                        self._compare_padded(name, value, got, group, mask)
        self._batches = max(self._batches, wanted)

    def _compare_padded(
        self, name: str, value: Array, got: Sequence[Array], group: Sequence[Window], mask: Array
    ) -> None:
        """Rows of texts that are padded. What is of a whole text is made from its first place, so it is
        compared where that is not padding."""
        spec = self._interface.output(name)
        if spec is None or spec.dims[:1] != self._batch_dims[:1]:
            return
        by_token = spec.dims[1:2] == self._batch_dims[1:2]
        for i, window in enumerate(group):
            real = mask[i] != 0
            if real.all() or not (by_token or real[0]):
                continue
            expected = value[i][real] if by_token else value[i]
            others = [
                np.empty(0) if other.shape != value.shape else other[i][real] if by_token else other[i]
                for other in got
            ]
            rows = [row_cosines(expected, other) for other in others]
            self._padded.setdefault(name, Found()).add(window, rows)


def _pairs(expected: Arrays, results: Sequence[Arrays]) -> Iterator[tuple[str, Array, list[Array]]]:
    """Each part of what is expected, with the same part of every result; empty where one has it not."""
    for name, whole in expected.items():
        others = [dict(parts_of(name, result[name])) if name in result else {} for result in results]
        for part, value in parts_of(name, whole):
            yield part, np.asarray(value), [np.asarray(other.get(part, np.empty(0))) for other in others]


def _exact(values: Sequence[float]) -> Exact:
    own, *baseline = values
    return Exact(own, baseline[0] if baseline else None)
