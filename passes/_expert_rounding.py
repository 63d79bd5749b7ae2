"""Rounding the experts of a mixture by what reaches each on real inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Stream
from graphopt.ir import Expr, Reshaped, Sliced, lazy
from graphopt.pipeline import Context

from ._forms import Form
from ._gptq import fewest_rows, rounded_tiles
from ._nbits import Packed, concatenated, quantized_tiles, unpacked
from ._routed import Routed, gated, hessian_of

__all__ = ["ExpertRounding"]

Floats = NDArray[np.float32]


class ExpertRounding:
    """GPTQ for the experts of a graph's MoE nodes, asked for in its order."""

    def __init__(self, context: Context, step: str, sweeps: int) -> None:
        self._context, self._step, self._sweeps = context, step, sweeps
        self._stream: Stream | str | None = None

    def of(self, node: ir.Node, form: Form) -> tuple[list[Packed], list[Packed]] | None:
        """W1 and W2 of the MoE `node` in `form`, an expert after the other. Raises `NotFinite`.

        None, which is noted, without anything to calibrate on.
        """
        if self._stream is None:
            self._stream = self._context.stream()
            if isinstance(self._stream, str):
                self._context.note(f"{self._step}: experts are rounded to nearest: {self._stream}")
        if isinstance(self._stream, str):
            return None
        routed = Routed(node, self._stream)
        first, second = node.inputs[2], node.inputs[4]
        assert first is not None
        assert second is not None
        few: dict[str, list[int]] = {}
        made: tuple[list[Packed], list[Packed]] = ([], [])
        for expert in range(_experts(first)):
            tokens, shares = routed.to(expert)
            made[0].append(self._rounded(first, expert, form, tokens * shares, few))
            inner = gated(_times(tokens, made[0][-1], form, _bias(node, 3, expert)), node)
            made[1].append(
                self._rounded(second, expert, form, None if inner is None else inner * shares, few)
            )
        for name, counts in few.items():
            self._context.note(
                f"{self._step}: {name}: {len(counts)} of {_experts(first)} experts are rounded to nearest: "
                f"{min(counts)} tokens go to one of them, and {fewest_rows(_widths(node)[name])} are wanted"
            )
        return made

    def _rounded(
        self, value: ir.Value, expert: int, form: Form, inputs: Floats | None, few: dict[str, list[int]]
    ) -> Packed:
        rows, name = _rows(value, expert), value.name or "experts"

        def say(text: str) -> None:
            self._context.note(f"{self._step}: {name}: {text}")

        def arrays() -> dict[str, NDArray[Any]]:
            hessian = None if inputs is None else hessian_of(inputs, say)
            if hessian is None:
                packed = concatenated(list(quantized_tiles(rows, form)))
            else:
                packed = rounded_tiles(rows, form, hessian, self._sweeps)
            return {"weight": packed.weight, "scales": packed.scales}

        if inputs is None:
            say(f"expert {expert} is rounded to nearest: what it reads is known of SwiGLU alone")
        elif len(inputs) < fewest_rows(rows.shape[1]):
            few.setdefault(name, []).append(len(inputs))
        known = self._context.remember(["experts", name, expert, str(form)], arrays)
        return Packed(known["weight"], known["scales"])


def _experts(value: ir.Value) -> int:
    assert value.const_value is not None
    return int(value.const_value.shape.numpy()[0])


def _widths(node: ir.Node) -> dict[str, int]:
    """Columns of both weights of `node`, by name."""
    return {
        v.name or "experts": _rows(v, 0).shape[1] for v in (node.inputs[2], node.inputs[4]) if v is not None
    }


def _rows(value: ir.Value, expert: int) -> Expr:
    """The weight [N, K] of one expert."""
    assert value.const_value is not None
    whole = lazy(value.const_value)
    return Reshaped(Sliced(whole, 0, expert, expert + 1), whole.shape[1:])


def _times(tokens: Floats, packed: Packed, form: Form, bias: Floats | None) -> Floats:
    h: Floats = tokens @ unpacked(packed, form.bits, tokens.shape[1]).T
    return h if bias is None else h + bias


def _bias(node: ir.Node, index: int, expert: int) -> Floats | None:
    value = node.inputs[index]
    if value is None or value.const_value is None:
        return None
    found: Floats = lazy(value.const_value).read((slice(expert, expert + 1), slice(None)))[0]
    return found
