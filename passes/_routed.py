"""What the experts of a mixture read on real inputs, and how a weight of one is rounded by it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Gram, Stream

from ._gptq import Hessian, fewest_rows

__all__ = ["Routed", "gated", "hessian_of"]

Floats = NDArray[np.float32]

_HELD_OUT = 4  # one row of so many


class Routed:
    """The tokens that reach the MoE `node` in the calls of `stream`, and which experts they go to."""

    def __init__(self, node: ir.Node, stream: Stream) -> None:
        x, scores = node.inputs[:2]
        assert x is not None
        assert scores is not None
        log = scores.producer()
        spread = log is not None and log.op_type == "Log"  # -inf for all experts but the chosen
        if spread:
            assert log is not None
            scores = log.inputs[0]
        assert scores is not None
        k = node.attributes.get_int("k", 1)
        rows, shares = [], []
        for tokens, found in stream.values([x, scores]):
            rows.append(tokens.reshape(-1, tokens.shape[-1]))
            shares.append(_shares(found if spread else np.exp(found - found.max(-1, keepdims=True)), k))
        self._rows, self._shares = np.concatenate(rows), np.concatenate(shares)

    def to(self, expert: int) -> tuple[Floats, Floats]:
        """The tokens [n, hidden] that go to `expert`, and its share [n, 1] in what comes of each."""
        there = self._shares[:, expert] > 0
        return self._rows[there].astype(np.float32), self._shares[there, expert, None]


def _shares(weights: Floats, k: int) -> Floats:
    """The `k` largest of each row of `weights` [n, experts], summing to one, and zeros."""
    chosen = np.argsort(-weights, axis=-1, kind="stable")[:, :k]
    shares = np.zeros(weights.shape, np.float32)
    np.put_along_axis(shares, chosen, np.take_along_axis(weights, chosen, -1), -1)
    found: Floats = shares / np.maximum(shares.sum(-1, keepdims=True), np.float32(1e-30))
    return found


def gated(h: Floats, node: ir.Node) -> Floats | None:
    """What experts of the MoE `node` make of W1 x + b1 [n, 2 inner]: [n, inner]; None but for SwiGLU."""
    attributes = node.attributes
    if (
        attributes.get_string("activation_type", "relu") != "swiglu"
        or attributes.get_int("swiglu_fusion", 0) != 1
    ):
        return None
    limit = np.float32(attributes.get_float("swiglu_limit", np.inf))
    gate, up = np.minimum(h[:, ::2], limit), np.clip(h[:, 1::2], -limit, limit)
    alpha, beta = (
        np.float32(attributes.get_float(f"activation_{name}", d))
        for name, d in (("alpha", 1.0), ("beta", 0.0))
    )
    with np.errstate(over="ignore"):
        made: Floats = gate / (1 + np.exp(-alpha * gate)) * (up + beta)
    return made


def hessian_of(rows: Floats, say: Callable[[str], None]) -> Hessian | None:
    """That of products with `rows` [n, K], the last quarter of which is held out; None of too few."""
    width = rows.shape[1]
    if len(rows) < fewest_rows(width):
        return None
    seen, held_out = Gram(width), Gram(width)
    first = len(rows) - len(rows) // _HELD_OUT
    seen.add(rows[:first])
    held_out.add(rows[first:])
    return Hessian.taking(seen.matrix, held_out.matrix, say)
