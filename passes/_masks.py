"""What an attention mask means, found by running the part of the graph that makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import evaluate, extract
from graphopt.pipeline import Context

__all__ = ["MaskMeaning", "mask_meaning", "masks_whole_rows"]

_PADDING = "attention_mask"
T = TypeVar("T")


@dataclass(frozen=True)
class MaskMeaning:
    """Which keys a query may attend to. Query s of a chunk stands at past + s; past = total - sequence.

    causal: none after its own place. window: none `window` places or more before it (None: as far as there is).
    padding: none that `attention_mask` int64[batch, total] marks 0.
    """

    causal: bool
    window: int | None
    padding: bool

    def allowed(self, sequence: int, padding: np.ndarray) -> np.ndarray:
        """bool[batch, 1, sequence, total] for a padding mask int64[batch, total]."""
        total = padding.shape[1]
        query = np.arange(total - sequence, total)[:, None]
        key = np.arange(total)[None]
        kept = np.ones((sequence, total), np.bool_)
        if self.causal:
            kept &= key <= query
        if self.window is not None:
            kept &= query - key < self.window
        result = np.broadcast_to(kept, (len(padding), 1, sequence, total))
        return result & (padding[:, None, None] != 0) if self.padding else result


def mask_meaning(mask: ir.Value, context: Context) -> MaskMeaning | None:
    """The closed form that `mask` equals in every case of the input domain, for the queries that are tokens.

    `mask` is bool (True: may attend) or additive. None where no form fits, where the mask differs by head or
    depends on anything that is not an input, and where nothing is known about legal inputs.
    """

    def found() -> MaskMeaning | None:
        cases = list(_padded(mask, context))
        longest = max((value.shape[-1] for value, _ in cases), default=0)
        windows = (None, *range(1, longest))
        for causal, padding, window in product((True, False), (True, False), windows):
            meaning = MaskMeaning(causal, window, padding)
            if cases and all(_fits(meaning, value, tokens) for value, tokens in cases):
                return meaning
        return None

    return _once(("mask-meaning", mask), found, context)


def _padded(mask: ir.Value, context: Context) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(allowed, attention_mask) of each case that has one and a mask of the usual four axes."""
    for (value,), feeds in _values([mask], context):
        tokens = feeds.get(_PADDING)
        if tokens is not None:
            yield _allowed(value), tokens


def _fits(meaning: MaskMeaning, value: np.ndarray, tokens: np.ndarray) -> bool:
    if value.ndim != 4 or value.shape[1] != 1 or value.shape[-1] != tokens.shape[1]:
        return False
    expected = meaning.allowed(value.shape[2], tokens)
    queries = tokens[:, None, -value.shape[2] :] != 0
    return np.array_equal(np.broadcast_to(value, expected.shape)[queries], expected[queries])


def masks_whole_rows(condition: ir.Value, mask: ir.Value, context: Context) -> bool:
    """Whether `condition` is true just for those queries that `mask` lets attend to nothing, in every case."""

    def found() -> bool:
        rows = [
            np.array_equal(np.broadcast_to(row, (*value.shape[:-1], 1)), ~_allowed(value).any(-1, keepdims=True))
            for (row, value), _ in _values([condition, mask], context)
        ]
        return bool(rows) and all(rows)

    return _once(("masks-whole-rows", condition, mask), found, context)


def _values(
    values: list[ir.Value], context: Context
) -> Iterator[tuple[list[np.ndarray], Mapping[str, np.ndarray]]]:
    """What `values` are in each case of the input domain, and its feeds."""
    if context.domain is None:
        return
    try:
        piece = extract(context.model.graph, values)
    except ValueError:
        return
    for case in context.domain.cases(np.random.default_rng(0)):
        yield evaluate(piece, case.feeds), case.feeds


def _allowed(mask: np.ndarray) -> np.ndarray:
    """True where a query may attend: of a bool mask itself, of an additive one where it does not forbid."""
    return mask if mask.dtype == np.bool_ else mask > np.finfo(mask.dtype).min / 2


def _once(key: tuple[object, ...], find: Callable[[], T], context: Context) -> T:
    if key not in context.memo:
        context.memo[key] = find()
    result: T = context.memo[key]
    return result
