"""What an attention mask means, found by running the part of the graph that makes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, evaluate, extract
from graphopt.pipeline import Context

__all__ = ["MaskMeaning", "mask_meaning"]

Array = np.ndarray[Any, Any]
_LARGEST_WINDOW = 1 << 20
_FORBIDDEN = -1e4


@dataclass(frozen=True)
class MaskMeaning:
    """Which keys a query may attend to: those that meet every condition that is set.

    causal: not after the query. window: fewer than so many places before it. padding: real tokens.
    """

    causal: bool
    window: int | None
    padding: bool


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


def _find(mask: ir.Value, context: Context) -> MaskMeaning | None:
    try:
        piece = extract(context.model.graph, [mask])
    except ValueError:
        return None
    names = _Names.of(context.model.graph)
    if names is None:
        return None
    seen = _Seen()
    for padding in _calls(piece):
        feeds = {value.name or "": _feed(value, padding, names) for value in piece.graph.inputs}
        if any(feed is None for feed in feeds.values()):
            return None
        try:
            (result,) = evaluate(piece, {name: feed for name, feed in feeds.items() if feed is not None})
        except Exception:
            return None  # the call is not legal for this model: longer than a table of positions, say
        if not seen.add(result, padding):
            return None
    return seen.meaning()


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
        past = next(
            (s for name, s in shapes.items() if len(s) == 4 and (name or "").startswith("past")), None
        )
        sequence, cached, total = (_symbol(s, axis) for s, axis in ((ids, 1), (past, 2), (mask, 1)))
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
        elif result.dtype.kind == "f" and ((result == 0) | (result <= _FORBIDDEN)).all():
            shown = result == 0
        else:
            return False
        batch, total = call.mask.shape
        new = total - call.past
        if shown.ndim > 4 or shown.shape[-2:] != (new, total) or (shown.ndim == 4 and shown.shape[1] != 1):
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
