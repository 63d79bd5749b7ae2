"""What an attention mask means, found by running the part of the graph that makes it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, evaluator, extract, producer
from graphopt.pipeline import Context

from ._masks import FORBIDDING

__all__ = ["MaskMeaning", "MaskParts", "mask_meaning", "mask_parts"]

Array = np.ndarray[Any, Any]
_LARGEST_WINDOW = 1 << 20  # a judgement: longer than any model's context, so that a larger number is none


@dataclass(frozen=True)
class MaskMeaning:
    """Which keys a query may attend to: those that meet every condition that is set.

    causal: not after the query. window: fewer than so many places before it. padding: real tokens.
    """

    causal: bool
    window: int | None
    padding: bool

    def __and__(self, other: MaskMeaning) -> MaskMeaning:
        windows = [w for w in (self.window, other.window) if w is not None]
        return MaskMeaning(
            self.causal or other.causal, min(windows, default=None), self.padding or other.padding
        )


@dataclass(frozen=True)
class MaskParts:
    """A mask that is a sum: what its terms forbid, and the terms that are added to scores besides."""

    meaning: MaskMeaning
    biases: tuple[ir.Value, ...] = ()


def mask_meaning(mask: ir.Value, context: Context) -> MaskMeaning | None:
    """The meaning of a bool or additive `mask` [batch, 1, sequence, total], or None where it has another.

    The mask is computed for left, right and no padding, with and without a past, and for lengths around every
    number that occurs in its making (one of them may be the window), and compared with what was found so far.
    Queries that are padding do not count. It may depend on `attention_mask`, `position_ids` and the sizes of
    the other inputs.
    """
    key = ("mask-meaning", mask)
    if key not in context.memo:
        context.memo[key] = _find(mask, context)
    found: MaskMeaning | None = context.memo[key]
    return found


def mask_parts(mask: ir.Value, heads: int, context: Context) -> MaskParts | None:
    """What `mask` forbids and what it adds besides, or None where its terms are neither.

    A term that forbids nothing is finite, the same for any tokens, and [batch or 1, `heads` or 1, sequence
    or 1, total] or less, as ALiBi's slopes by positions are.
    """
    whole = mask_meaning(mask, context)
    if whole is not None:
        return MaskParts(whole)
    terms = list(_terms(mask))
    meanings = [mask_meaning(term, context) for term in terms]
    known = [meaning for meaning in meanings if meaning is not None]
    biases = [term for term, meaning in zip(terms, meanings, strict=True) if meaning is None]
    if not known or not all(_is_bias(term, heads, context) for term in biases):
        return None
    return MaskParts(functools.reduce(operator.and_, known), tuple(biases))


def _terms(mask: ir.Value) -> Iterator[ir.Value]:
    """The values whose sum, perhaps expanded, is `mask`."""
    expand = producer(mask, "Expand")
    add = producer(expand.inputs[0] if expand is not None else mask, "Add")
    if add is None:
        yield mask
        return
    for value in add.inputs:
        if value is not None:
            yield from _terms(value)


def _is_bias(value: ir.Value, heads: int, context: Context) -> bool:
    key = ("is-bias", value, heads)
    if key not in context.memo:
        runs = _runs(value, context)
        context.memo[key] = runs is not None and all(
            y.dtype.kind == "f"
            and _broadcasts(y.shape, (call.mask.shape[0], heads, call.mask.shape[1] - call.past))
            and y.shape[-1] == call.mask.shape[1]
            and bool((np.isfinite(y) & (y > FORBIDDING)).all())
            for call, y in runs
        )
    return bool(context.memo[key])


def _broadcasts(shape: tuple[int, ...], leading: tuple[int, int, int]) -> bool:
    """Whether `shape` is that of a bias for this batch, these heads and so many queries."""
    sizes = (1,) * (4 - len(shape)) + shape
    return len(sizes) == 4 and all(size in (1, most) for size, most in zip(sizes, leading, strict=False))


def _find(mask: ir.Value, context: Context) -> MaskMeaning | None:
    runs = _runs(mask, context)
    if runs is None:
        return None
    seen = _Seen()
    return seen.meaning() if all(seen.add(result, call) for call, result in runs) else None


def _runs(value: ir.Value, context: Context) -> list[tuple[_Call, Array]] | None:
    """`value` as each probing call makes it; None where that takes more than masks, positions and sizes."""
    try:
        piece = extract(context.model.graph, [value])
    except ValueError:
        return None
    names = _Names.of(context.model.graph)
    if names is None:
        return None
    results, run = [], None
    for call in _calls(piece):
        feeds = {v.name or "": _feed(v, call, names) for v in piece.graph.inputs}
        if any(feed is None for feed in feeds.values()):
            return None
        try:
            run = run or evaluator(piece)
            (result,) = run({name: feed for name, feed in feeds.items() if feed is not None})
        except Exception:
            return None  # the call is not legal for this model: longer than a table of positions, say
        results.append((call, result))
    return results


@dataclass(frozen=True)
class _Call:
    mask: Array  # int64[batch, total]
    past: int


def _calls(piece: ir.Model) -> Iterator[_Call]:
    for past, new, side in product((0, 4), (1, 5), ("none", "left", "right")):
        mask = np.ones((3, past + new), np.int64)
        if side == "left":
            mask[1, :1] = mask[2, : past + new - 1] = 0
        elif side == "right" and new > 1:
            mask[1, -1:] = mask[2, past + 1 :] = 0
        yield _Call(mask, past)
    for number in _numbers(piece):
        yield _Call(np.ones((1, number + 4), np.int64), number + 1)


def _numbers(piece: ir.Model) -> list[int]:
    values = [*piece.graph.initializers.values(), *(v for node in piece.graph for v in node.outputs)]
    constants = [c for c in map(const_of, values) if c is not None and c.size == 1 and c.dtype.kind in "if"]
    numbers = {abs(int(c.reshape(-1)[0])) for c in constants if np.isfinite(c).all()}
    return sorted(n for n in numbers if 1 < n <= _LARGEST_WINDOW)


@dataclass(frozen=True)
class _Names:
    """What the graph calls its sizes."""

    sequence: str
    past: str
    total: str | None

    @classmethod
    def of(cls, graph: ir.Graph) -> _Names | None:
        shapes = {value.name: value.shape for value in graph.inputs if value.shape is not None}
        mask, ids = shapes.get("attention_mask"), shapes.get("input_ids", shapes.get("inputs_embeds"))
        states = (s for name, s in shapes.items() if len(s) == 4 and (name or "").startswith("past"))
        cached = next(filter(None, (_symbol(state, 2) for state in states)), None)
        sequence, total = _symbol(ids, 1), _symbol(mask, 1)
        if sequence is None or cached is None or len({sequence, cached, total}) < 3:
            return None
        return cls(sequence, cached, total)


def _symbol(shape: ir.Shape | None, axis: int) -> str | None:
    dim = shape[axis] if shape is not None and len(shape) > axis else None
    return dim.value if isinstance(dim, ir.SymbolicDim) else None


def _feed(value: ir.Value, call: _Call, names: _Names) -> Array | None:
    if value.name == "attention_mask":
        return call.mask
    if value.name == "position_ids":
        positions: Array = np.maximum(np.cumsum(call.mask, 1) - 1, 0)
        return positions[:, call.past :]
    if value.shape is None or value.dtype is None:
        return None
    batch, total = call.mask.shape
    sizes = {names.sequence: total - call.past, names.past: call.past, names.total: total}
    dims = [d if isinstance(d, int) else sizes.get(d.value or "", batch) for d in value.shape]
    return np.zeros(dims, value.dtype.numpy())


@dataclass
class _Seen:
    """What queries that are tokens could attend to, by why they should not."""

    future: set[bool] = field(default_factory=set)
    padding: set[tuple[int, bool]] = field(default_factory=set)  # (distance, shown)
    nearest_hidden: int = _LARGEST_WINDOW << 1
    farthest_shown: int = 0

    def add(self, result: Array, call: _Call) -> bool:
        """Take in a computed mask; False where it says more, or differs between heads."""
        if result.dtype == np.bool_:
            shown = result
        elif result.dtype.kind == "f" and ((result == 0) | (result <= FORBIDDING)).all():
            shown = result == 0
        else:
            return False
        batch, total = call.mask.shape
        new = total - call.past
        if shown.ndim > 4 or shown.shape[-2:] != (new, total) or (shown.ndim > 2 and shown.shape[-3] != 1):
            return False
        shown = np.broadcast_to(shown.reshape(-1, new, total), (batch, new, total))
        distance = (np.arange(new)[:, None] + call.past - np.arange(total))[None]
        real_query = call.mask[:, call.past :, None] != 0
        real_key = call.mask[:, None, :] != 0
        self.future |= set(shown[real_query & (distance < 0) & real_key].tolist())
        past = real_query & real_key & (distance >= 0)
        hidden = np.broadcast_to(distance, shown.shape)[past & ~shown]
        visible = np.broadcast_to(distance, shown.shape)[past & shown]
        self.nearest_hidden = (
            min(self.nearest_hidden, *hidden.tolist()) if hidden.size else self.nearest_hidden
        )
        self.farthest_shown = (
            max(self.farthest_shown, *visible.tolist()) if visible.size else self.farthest_shown
        )
        far = np.broadcast_to(distance, shown.shape)
        pads = real_query & ~real_key & (distance >= 0)
        self.padding |= set(zip(far[pads].tolist(), shown[pads].tolist(), strict=True))
        return True

    def meaning(self) -> MaskMeaning | None:
        padding = {shown for distance, shown in self.padding if distance < self.nearest_hidden}
        if len(self.future) != 1 or len(padding) != 1 or self.farthest_shown >= self.nearest_hidden:
            return None
        window = self.nearest_hidden if self.nearest_hidden <= _LARGEST_WINDOW else None
        return MaskMeaning(False in self.future, window, False in padding)
