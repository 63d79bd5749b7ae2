"""Legal calls of text models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from graphopt.families import Case, InputDomain, Padding
from graphopt.interface import Interface, TensorSpec

EDGE = 7
"""Rows of a batch that has every padding of 0 to 6 places."""
_SHORT_WINDOW = 256
"""Up to here a window is passed in one prefill, whose scores are its square."""
_LONG_PREFILL = 1025
"""The longest prefill: one more than 1024, a usual constant; its mask has a million places."""
_USUAL_PAST = 64
"""Below, a decode step at the end is one that the usual cases have already."""
_STATES = 1 << 25
"""Elements of all keys and values in a call at the end: 128 MiB as float32, twice for past and present."""


_OF_TOKENS = ("input_ids", "attention_mask", "position_ids")


class TokenDomain(InputDomain):
    """Token ids, uniform over the vocabulary but for the padding token, which fills masked places."""

    def __init__(self, interface: Interface, config: Mapping[str, Any]) -> None:
        self.interface = interface
        self._config = config
        self._vocabulary = int(config["vocab_size"])
        pad = config.get("pad_token_id")
        self._pad = int(pad) if isinstance(pad, int) and 0 <= pad < self._vocabulary else 0

    def _tokens(self, rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
        drawn = rng.integers(0, self._vocabulary - 1, mask.shape)
        drawn += drawn >= self._pad
        return np.where(mask != 0, drawn, self._pad).astype(np.int64)

    def _feeds(
        self,
        rng: np.random.Generator,
        made: Mapping[str, np.ndarray],
        sizes: Mapping[str, int],
        *,
        blank: bool = False,
    ) -> dict[str, np.ndarray]:
        """What is `made` of the inputs, and normal numbers for the others; `sizes` are of dimensions.

        With `blank`, zeros that take no memory instead.
        """
        feeds = {}
        for spec in self.interface.inputs:
            if spec.name in made:
                feeds[spec.name] = made[spec.name]
                continue
            shape = _shape(spec, sizes)
            if blank:
                feeds[spec.name] = np.broadcast_to(np.zeros((), spec.dtype), shape)
            else:
                feeds[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
        return feeds

    @property
    def positions(self) -> int | None:
        found = self._config.get("max_position_embeddings")
        return found if isinstance(found, int) and found > 0 else None


def _shape(spec: TensorSpec, sizes: Mapping[str, int]) -> list[int]:
    return [sizes[d] if isinstance(d, str) else int(d or 0) for d in spec.dims]


def mask_of(lengths: Sequence[int], width: int, padding: Padding) -> np.ndarray:
    """int64[len(lengths), width]: row i has `lengths[i]` ones, at the left end if padded right."""
    columns, length = np.arange(width), np.asarray(lengths)[:, None]
    return (columns >= width - length if padding == "left" else columns < length).astype(np.int64)


class DecoderDomain(TokenDomain):
    """A decoder's calls: a mask over past and new positions, positions counting its ones, any keys, values.

    Batches of equal length, or padded on one side; a past that holds padding keeps holding it. A state of one
    size at any length is zero where there is no past, and padding is on the left: a token behind it would
    go on from a state that has run over the padding.
    """

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        return (case for case in self._all_cases(rng) if self._is_legal(case))

    def edges(self, rng: np.random.Generator) -> Iterator[Case]:
        return (case for case in self._all_edges(rng) if self._is_legal(case))

    def _is_legal(self, case: Case) -> bool:
        return case.padding != "right" or not any(map(_is_fixed, self.interface.inputs))

    def _all_cases(self, rng: np.random.Generator) -> Iterator[Case]:
        yield self.case(rng, "prefill", [7])
        yield self.case(rng, "prefill-long", [25])
        yield self.case(rng, "prefill-batch", [6, 6, 6])
        yield self.case(rng, "prefill-left-padded", [4, 9, 6], padding="left")
        yield self.case(rng, "prefill-right-padded", [4, 9, 6], padding="right")
        yield self.case(rng, "chunk", [5], past=[11])
        yield self.case(rng, "chunk-left-padded", [3, 3, 3], past=[5, 12, 8], padding="left")
        yield self.case(rng, "decode", [1], past=[10])
        yield self.case(rng, "decode-batch", [1, 1, 1], past=[9, 9, 9])
        yield self.case(rng, "decode-left-padded", [1, 1, 1], past=[4, 13, 7], padding="left")
        yield self.case(rng, "decode-right-padded", [1, 1, 1], past=[4, 13, 7], padding="right")

    def _all_edges(self, rng: np.random.Generator) -> Iterator[Case]:
        lengths = list(range(1, EDGE + 1))
        yield self.case(rng, "every-left-padding", lengths, padding="left")
        yield self.case(rng, "every-right-padding", lengths, padding="right")
        yield self.case(rng, "every-left-padding-of-the-past", [1] * EDGE, past=lengths, padding="left")
        yield self.case(rng, "every-right-padding-of-the-past", [1] * EDGE, past=lengths, padding="right")
        window = self._config.get("sliding_window")
        if isinstance(window, int):
            yield self.case(rng, "beyond-the-window", [3], past=[window + 2])
            if window < _SHORT_WINDOW:
                yield self.case(rng, "prefill-beyond-the-window", [window + 5])

    def longer(self, rng: np.random.Generator, length: int) -> Iterator[Case]:
        if length + 1 > int(self._config.get("max_position_embeddings") or length + 1):
            return
        if length <= _LONG_PREFILL:
            yield self.case(rng, f"prefill-of-{length}", [length])
        yield self.case(rng, f"decode-after-{length}", [1], past=[length])

    def reaching(self, rng: np.random.Generator, start: int, count: int) -> Iterator[Case]:
        yield self.case(rng, f"positions-{start}-to-{start + count - 1}", [count], past=[start], blank=True)

    def furthest(self, rng: np.random.Generator) -> Iterator[Case]:
        states = [spec for spec in self.interface.inputs if "past" in spec.dims]
        each = sum(prod(_shape(spec, {"batch": 1, "past": 1})) for spec in states)
        past = min((self.positions or 0) - 1, _STATES // each if each else 0)
        if past > _USUAL_PAST:
            yield self.case(rng, "decode-at-the-end", [1], past=[past])

    def case(
        self,
        rng: np.random.Generator,
        name: str,
        lengths: Sequence[int],
        *,
        past: Sequence[int] | None = None,
        padding: Padding = "none",
        blank: bool = False,
    ) -> Case:
        """A call with `lengths[i]` new tokens in row i after `past[i]` cached ones, shorter rows padded.

        Rows whose past is shorter hold padding there; the new tokens of a call with a past are padded too
        if their lengths differ.
        """
        past = [0] * len(lengths) if past is None else past
        new = mask_of(lengths, max(lengths), padding)
        tokens = self._tokens(rng, new)
        return self._call(rng, name, tokens, new, past, padding, blank=blank)

    def reading(self, tokens: np.ndarray, past: int = 0) -> dict[str, np.ndarray]:
        new = np.ones(tokens.shape, np.int64)
        rng, before = np.random.default_rng(0), [past] * len(tokens)
        feeds = self._call(rng, "reading", tokens, new, before, "none", blank=True).feeds
        return {name: array for name, array in feeds.items() if not past or name in _OF_TOKENS}

    def _call(
        self,
        rng: np.random.Generator,
        name: str,
        tokens: np.ndarray,
        new: np.ndarray,
        past: Sequence[int],
        padding: Padding,
        *,
        blank: bool = False,
    ) -> Case:
        """A call with `tokens`, of which `new` is the mask."""
        mask = np.concatenate([mask_of(past, max(past), padding), new], axis=1)
        positions = np.maximum(mask.cumsum(1) - 1, 0) * mask
        made = {
            "input_ids": tokens,
            "attention_mask": mask,
            "position_ids": positions[:, max(past) :].copy(),
        }
        feeds = self._feeds(rng, made, {"batch": len(tokens), "past": max(past)}, blank=blank)
        if not max(past):
            fixed = (spec.name for spec in self.interface.inputs if _is_fixed(spec))
            feeds |= {name: np.zeros_like(feeds[name]) for name in fixed}
        compare = {spec.name: self._specified(spec, new, mask) for spec in self.interface.outputs}
        return Case(name, feeds, compare, padding, padded_past=len(set(past)) > 1)

    def _specified(self, output: TensorSpec, new: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Which places of `output` are: rows of real tokens, positions of real tokens, a fixed state."""
        if output.name == "logits":
            return np.asarray(new[:, :, None] != 0)
        before = self.interface.input(output.name.replace("present.", "past_key_values.", 1))
        if before is None or _is_fixed(before):
            return np.ones([1] * len(output.dims), bool)
        shape = [1] * len(before.dims)
        shape[0], shape[before.dims.index("past")] = mask.shape
        return np.asarray(mask != 0).reshape(shape)


def _is_fixed(spec: TensorSpec) -> bool:
    """Whether this is a state of one size at any length."""
    return spec.name.startswith("past_key_values.") and "past" not in spec.dims


class EncoderDomain(TokenDomain):
    """An encoder's calls: single texts, equal batches, batches padded on one side, pairs of segments."""

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        yield self._case(rng, "one", [8], "none")
        yield self._case(rng, "shortest", [1], "none")
        yield self._case(rng, "batch", [6, 6, 6], "none")
        yield self._case(rng, "right-padded", [4, 9, 6], "right")
        yield self._case(rng, "left-padded", [4, 9, 6], "left")

    def edges(self, rng: np.random.Generator) -> Iterator[Case]:
        lengths = list(range(1, EDGE + 1))
        yield self._case(rng, "every-right-padding", lengths, "right")
        yield self._case(rng, "every-left-padding", lengths, "left")

    def longer(self, rng: np.random.Generator, length: int) -> Iterator[Case]:
        if length <= min(_LONG_PREFILL, int(self._config.get("max_position_embeddings") or length)):
            yield self._case(rng, f"one-of-{length}", [length], "none")

    @property
    def positions(self) -> int | None:
        found = super().positions
        if found is not None and "roberta" in str(self._config.get("model_type")):
            found -= self._pad + 1  # where theirs begin
        return found

    def reaching(self, rng: np.random.Generator, start: int, count: int) -> Iterator[Case]:
        return self.longer(rng, start + count)

    def furthest(self, rng: np.random.Generator) -> Iterator[Case]:
        return self.longer(rng, min(self.positions or 0, _LONG_PREFILL)) if self.positions else iter(())

    def _case(self, rng: np.random.Generator, name: str, lengths: Sequence[int], padding: Padding) -> Case:
        mask = mask_of(lengths, max(lengths), padding)
        segments = int(self._config.get("type_vocab_size") or 1)
        second = np.arange(mask.shape[1]) >= mask.shape[1] // 2
        kinds = (mask * second if segments > 1 else np.zeros_like(mask)).astype(np.int64)
        feeds = self._given(self._tokens(rng, mask), mask, kinds)
        compare = {spec.name: self._valid(spec.dims, mask) for spec in self.interface.outputs}
        return Case(name, feeds, compare, padding)

    def reading(self, tokens: np.ndarray, past: int = 0) -> dict[str, np.ndarray] | None:
        if past:
            return None
        return self._given(tokens, np.ones_like(tokens), np.zeros_like(tokens))

    def _given(self, tokens: np.ndarray, mask: np.ndarray, kinds: np.ndarray) -> dict[str, np.ndarray]:
        made = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": kinds}
        return {spec.name: made[spec.name] for spec in self.interface.inputs}

    @staticmethod
    def _valid(dims: Sequence[int | str | None], mask: np.ndarray) -> np.ndarray:
        """Rows of real tokens; a whole text's output is made from its first token, so where that is real."""
        real = mask != 0 if len(dims) > 1 and dims[1] == "sequence" else mask[:, 0] != 0
        return np.asarray(real).reshape(*real.shape, *[1] * (len(dims) - real.ndim))
