"""What weights are multiplied by on real inputs, one weight's at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from graphopt.calibrate import CalibrationData, Gram
from graphopt.ir import static_dim
from graphopt.pipeline import Context

from ._gptq import Hessian, fewest_rows

__all__ = ["Hessians", "with_drawn"]

_DRAWN = range(1, 33)
"""Seeds of calls. A judgement; the closing check draws its own with another seed. By hand, in PyTorch, all
products of all-MiniLM-L6-v2 in 8 bits, the least cosine of a token in 55 more such calls: 0.974 with ranges
of text alone, 0.981 with those of 512 unpadded batches too, 0.989 with 8 seeds of all kinds of calls, 0.992
with 32, of which GPTQ then learns too. The least of 256 sentences stays 0.998."""
_FEW = 4  # calls: of fewer, each is held out in part


def with_drawn(context: Context) -> CalibrationData | None:
    """What there is to calibrate on, behind calls drawn from what is legal, where that is known.

    What is legal and no text has other ranges, and clipping to those of text does the most damage there. It
    comes first: what is held out, the last calls, is text alone.
    """
    data, domain = context.calibration, context.domain
    if data is None or domain is None:
        return data
    drawn = (case.feeds for seed in _DRAWN for case in domain.cases(np.random.default_rng(seed)))
    return replace(data, calls=(*drawn, *data.calls))


class Hessians:
    """Hessians of the products of a graph, asked for in its order, with what is quantized by then.

    `BadInput`, which says how much is needed, where there are fewer rows to calibrate on than a quarter of a
    weight's columns.
    """

    def __init__(self, context: Context, step: str, data: CalibrationData | None = None) -> None:
        self._context, self._step = context, step
        self._stream = context.stream(data=data)
        if isinstance(self._stream, str):
            context.note(f"{step}: weights are rounded to nearest: {self._stream}")
        self._last: tuple[ir.Value, float, Hessian | None] | None = None

    def of(self, x: ir.Value, least_damping: float) -> Hessian | None:
        """That of products with `x`; None, with a note, where there is none."""
        if isinstance(self._stream, str):
            return None
        if self._last is None or self._last[:2] != (x, least_damping):
            self._last = None  # before the next one is made
            self._last = x, least_damping, self._collected(x, least_damping)
        return self._last[2]

    def _collected(self, x: ir.Value, least_damping: float) -> Hessian | None:
        stream, width = self._stream, static_dim(x, -1)
        assert not isinstance(stream, str)
        reason = "its width is unknown" if width is None else stream.refuses(x)
        if width is None or reason is not None:
            self._say(x, f"rounded to nearest: {reason}")
            return None
        seen, held_out = Gram(width), Gram(width)
        calls = len(stream)
        for index, (array,) in enumerate(stream.values([x])):
            rows = array.reshape(-1, width)
            first = len(rows) if index < calls - calls // 4 else 0
            if calls < _FEW:
                first = len(rows) - len(rows) // 4
            seen.add(rows[:first])
            held_out.add(rows[first:])
        self._require(seen.rows + held_out.rows, width)
        if seen.rows < width:
            self._say(x, f"{seen.rows + held_out.rows} rows to calibrate on, and {width * 4 // 3} are wanted")
        if not seen.rows or not held_out.rows:
            return None
        return Hessian.taking(
            seen.matrix, held_out.matrix, lambda text: self._say(x, text), least_damping=least_damping
        )

    def _require(self, rows: int, width: int) -> None:
        """Raise `BadInput` where `rows` of activations are too few, with what would make enough of them."""
        data, fewest = self._context.calibration, fewest_rows(width)
        if data is not None and 0 < rows < fewest:
            needed = -(-fewest * data.rows // rows)
            data.require(needed, f"{self._step} (GPTQ of a weight with {width} columns)")

    def _say(self, x: ir.Value, text: str) -> None:
        self._context.note(f"{self._step}: {x.name}: {text}")
