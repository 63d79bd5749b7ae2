"""What a Slice takes, where its bounds are known."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import const_of

__all__ = ["Cut", "cut_of"]

_FURTHEST = 2**63 - 1
"""The largest int64, which bounds are."""


@dataclass(frozen=True)
class Cut:
    """Of `value`, by axis from the front, what lies from a start to before an end, as a Slice says both."""

    value: ir.Value
    bounds: dict[int, tuple[int, int]]

    @property
    def axis(self) -> int | None:
        """The axis, where there is one alone."""
        return next(iter(self.bounds)) if len(self.bounds) == 1 else None

    def within(self, size: int) -> tuple[int, int]:
        """Its only bounds as places of an axis of `size`."""
        ((start, end),) = self.bounds.values()
        start, end, _ = slice(start, end).indices(size)
        return start, end

    def then(self, other: Cut) -> Cut | str:
        """What `other`, a cut of this one's result, takes of this one's value; why that is not known."""
        bounds = dict(self.bounds)
        for axis, (start, end) in other.bounds.items():
            if axis not in bounds:
                bounds[axis] = (start, end)
                continue
            first, last = bounds[axis]
            if min(first, last, start, end) < 0:
                return "bounds along one axis are counted from its two ends"
            if first + start > _FURTHEST:
                return "a bound is beyond what an int64 holds"
            bounds[axis] = (first + start, min(last, first + end))
        return Cut(self.value, bounds)


def cut_of(node: ir.Node) -> Cut | None:
    """What a Slice of steps of one takes; None for other nodes, and where bounds or axes are not known."""
    if node.op_type != "Slice" or node.domain != "" or len(node.inputs) < 3:
        return None
    value, *given = node.inputs
    starts, ends, axes, steps = [const_of(v) for v in (*given, None, None)[:4]]
    if value is None or value.shape is None or starts is None or ends is None:
        return None
    if (axes is None) != (len(given) < 3 or given[2] is None) or (steps is None) != (
        len(given) < 4 or given[3] is None
    ):
        return None
    rank = len(value.shape)
    places = range(len(starts)) if axes is None else [int(axis) % rank for axis in axes]
    if len({*places}) != len(starts) or (steps is not None and (steps != 1).any()):
        return None
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    return Cut(value, dict(zip(places, pairs, strict=True)))
