"""Legal calls of encoder-decoder models and of their two graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from graphopt.families import Case, Padding

from ._text_domain import EDGE, TokenDomain, mask_of

TOKENS, MASK, FEATURES = "input_ids", "attention_mask", "input_features"
DECODER_TOKENS = "decoder_input_ids"


class _SourceDomain(TokenDomain):
    """Sources: texts, padded on one side where their lengths differ, or features of fixed length."""

    def _source(
        self, rng: np.random.Generator, lengths: Sequence[int], padding: Padding
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Inputs, and the mask of real positions if there is one."""
        features = self.interface.input(FEATURES)
        if features is not None:
            shape = [len(lengths), *(int(d or 0) for d in features.dims[1:])]
            return {FEATURES: rng.standard_normal(shape).astype(features.dtype)}, None
        mask = mask_of(lengths, max(lengths), padding)
        return {TOKENS: self._tokens(rng, mask), MASK: mask}, mask


class EncoderDomain(_SourceDomain):
    """An encoder's calls; what it gives for padding is unspecified."""

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        yield self._case(rng, "one", [8])
        yield self._case(rng, "batch", [6, 6, 6])
        if self.interface.input(MASK) is not None:
            yield self._case(rng, "long", [37])
            yield self._case(rng, "shortest", [1])
            yield self._case(rng, "right-padded", [4, 9, 6], "right")
            yield self._case(rng, "left-padded", [4, 9, 6], "left")

    def edges(self, rng: np.random.Generator) -> Iterator[Case]:
        if self.interface.input(MASK) is not None:
            yield self._case(rng, "every-right-padding", range(1, EDGE + 1), "right")
            yield self._case(rng, "every-left-padding", range(1, EDGE + 1), "left")

    def _case(
        self, rng: np.random.Generator, name: str, lengths: Sequence[int], padding: Padding = "none"
    ) -> Case:
        feeds, mask = self._source(rng, lengths, padding)
        real = np.ones((1, 1), np.int64) if mask is None else mask
        compare = {spec.name: real[:, None, :, None] != 0 for spec in self.interface.outputs}
        return Case(name, feeds, compare, padding)


class DecoderDomain(TokenDomain):
    """A decoder's calls: rows of equal length, any keys and values, sources padded or not."""

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        yield self._case(rng, "start", 1, [8])
        yield self._case(rng, "prefix", 6, [5])
        yield self._case(rng, "prefix-long", 23, [21])
        yield self._case(rng, "prefix-batch", 4, [7, 7, 7])
        yield self._case(rng, "prefix-right-padded", 4, [4, 9, 6], padding="right")
        yield self._case(rng, "chunk", 3, [8], past=5)
        yield self._case(rng, "chunk-right-padded", 3, [4, 9, 6], past=11, padding="right")
        yield self._case(rng, "decode", 1, [8], past=10)
        yield self._case(rng, "decode-right-padded", 1, [4, 9, 6], past=13, padding="right")
        yield self._case(rng, "decode-left-padded", 1, [4, 9, 6], past=4, padding="left")

    def edges(self, rng: np.random.Generator) -> Iterator[Case]:
        lengths = range(1, EDGE + 1)
        for padding in ("right", "left"):
            yield self._case(rng, f"every-{padding}-padding", 2, lengths, past=3, padding=padding)

    @property
    def positions(self) -> int | None:
        return self._config.get("max_target_positions") or super().positions

    def reaching(self, rng: np.random.Generator, start: int, count: int) -> Iterator[Case]:
        yield self._case(rng, f"positions-{start}-to-{start + count - 1}", count, [8], past=start, blank=True)

    def _case(
        self,
        rng: np.random.Generator,
        name: str,
        tokens: int,
        lengths: Sequence[int],
        *,
        past: int = 0,
        padding: Padding = "none",
        blank: bool = False,
    ) -> Case:
        """`tokens` new tokens in every row after `past` cached ones; `lengths` are the sources'."""
        batch = len(lengths)
        made = {
            TOKENS: self._tokens(rng, np.ones((batch, tokens), np.int64)),
            f"encoder_{MASK}": mask_of(lengths, max(lengths), padding),
        }
        sizes = {"batch": batch, "past": past, "source": max(lengths)}
        feeds = self._feeds(rng, made, sizes, blank=blank)
        compare = {spec.name: np.ones([1] * len(spec.dims), np.bool_) for spec in self.interface.outputs}
        return Case(name, feeds, compare, padding)


class WholeDomain(_SourceDomain):
    """Sources with the first tokens of their answers, the same number in every row."""

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        yield self._case(rng, "one", [9], 6)
        yield self._case(rng, "batch", [7, 7, 7], 5)
        if self.interface.input(MASK) is not None:
            yield self._case(rng, "right-padded", [4, 9, 6], 5, "right")
            yield self._case(rng, "left-padded", [4, 9, 6], 5, "left")

    def _case(
        self,
        rng: np.random.Generator,
        name: str,
        lengths: Sequence[int],
        tokens: int,
        padding: Padding = "none",
    ) -> Case:
        feeds, _ = self._source(rng, lengths, padding)
        feeds[DECODER_TOKENS] = self._tokens(rng, np.ones((len(lengths), tokens), np.int64))
        return Case(name, feeds, {"logits": np.ones((1, 1, 1), np.bool_)}, padding)
