"""A GRU step by step, its products in integers: a Scan, since no runtime has a kernel for all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import MICROSOFT, const_of
from graphopt.pipeline import Nodes

__all__ = ["PRODUCT", "Quantized", "gated"]

PRODUCT = "DynamicQuantizeMatMul"
_FLOAT = ir.DataType.FLOAT
_GATES = 3


@dataclass(frozen=True)
class Quantized:
    """int8 [k, 3h] and scales [3h] of a weight [3h, k] of one direction."""

    integers: ir.Value
    scales: ir.Value


def gated(node: ir.Node, weights: Callable[[int, int], Quantized], new: Nodes) -> tuple[ir.Value, ir.Value]:
    """Y [S, d, B, h] and Y_h [d, B, h] of a GRU whose `linear_before_reset` is 1 (the operator's equations).

    `weights` gives W and R, by their places among its inputs, of a direction.
    """
    (x, bias, start) = (node.inputs[i] if len(node.inputs) > i else None for i in (0, 3, 5))
    direction = node.attributes.get_string("direction", "forward")
    reversed_ = {"forward": [0], "reverse": [1], "bidirectional": [0, 1]}[direction]
    hidden = node.attributes.get_int("hidden_size", 0)
    both = const_of(bias) if bias is not None else None
    ends = [new.constant([0], np.int64, "first"), new.constant([1], np.int64, "second")]
    sequences, lasts = [], []
    for number, backwards in enumerate(reversed_):
        label = "/back" if number else ""
        halves = (None, None) if both is None else both[number].reshape(2, -1)
        biases = [
            None if half is None else new.constant(half, np.float32, f"bias{label}/{name}")
            for half, name in zip(halves, "xh", strict=True)
        ]
        entered = _product(new, x, weights(1, number), biases[0], f"entered{label}")
        h = _zeros(new, x, hidden, label) if start is None else _started(new, start, number)
        body = _step(weights(2, number), biases[1], hidden, f"{new.base}/step{label}")
        like = ir.Value(type=ir.TensorType(_FLOAT))
        last, sequence = new.many(
            "Scan",
            [h, entered],
            f"scan{label}",
            [like, like],
            body=body,
            num_scan_inputs=1,
            scan_input_directions=[backwards],
            scan_output_directions=[backwards],
        )
        sequences.append(new.op("Unsqueeze", [sequence, ends[1]], f"sequence{label}", dtype=_FLOAT))
        lasts.append(new.op("Unsqueeze", [last, ends[0]], f"last{label}", dtype=_FLOAT))
    return _joined(new, sequences, 1, "sequences"), _joined(new, lasts, 0, "lasts")


def _joined(new: Nodes, parts: Sequence[ir.Value], axis: int, label: str) -> ir.Value:
    return parts[0] if len(parts) == 1 else new.op("Concat", parts, label, dtype=_FLOAT, axis=axis)


def _zeros(new: Nodes, x: ir.Value | None, hidden: int, label: str) -> ir.Value:
    """The state before the first step, [B, h]."""
    batch = new.op("Shape", [x], f"batch{label}", dtype=ir.DataType.INT64, start=1, end=2)
    width = new.constant([hidden], np.int64, f"width{label}")
    shape = new.op("Concat", [batch, width], f"shape{label}", dtype=ir.DataType.INT64, axis=0)
    return new.op("ConstantOfShape", [shape], f"zeros{label}", dtype=_FLOAT)


def _started(new: Nodes, start: ir.Value, number: int) -> ir.Value:
    """The state before the first step of a direction, [B, h] of [d, B, h]."""
    label = "/back" if number else ""
    at = new.constant(number, np.int64, f"at{label}")
    return new.op("Gather", [start, at], f"start{label}", dtype=_FLOAT)


def _product(
    new: Nodes, x: ir.Value | None, weight: Quantized, bias: ir.Value | None, label: str
) -> ir.Value:
    added = [] if bias is None else [None, bias]
    inputs = [x, weight.integers, weight.scales, *added]
    return new.op(PRODUCT, inputs, label, dtype=_FLOAT, domain=MICROSOFT)


def _step(weight: Quantized, bias: ir.Value | None, hidden: int, name: str) -> ir.Graph:
    """From the state h [B, h], and what entered [B, 3h], to the next state, which is what comes out, too."""
    new = Nodes(name)
    state, entered = (
        ir.Value(name=f"{name}/{label}", type=ir.TensorType(_FLOAT)) for label in ("state", "entered")
    )
    kept = _product(new, state, weight, bias, "kept")
    like = [ir.Value(type=ir.TensorType(_FLOAT))] * _GATES
    split = {
        label: new.many("Split", [value], label, like, axis=-1, num_outputs=_GATES)
        for label, value in (("of-input", entered), ("of-state", kept))
    }
    (xz, xr, xh), (hz, hr, hh) = split.values()

    def op(kind: str, inputs: list[ir.Value], label: str) -> ir.Value:
        return new.op(kind, inputs, label, dtype=_FLOAT)

    update = op("Sigmoid", [op("Add", [xz, hz], "update/sum")], "update")
    reset = op("Sigmoid", [op("Add", [xr, hr], "reset/sum")], "reset")
    fresh = op("Tanh", [op("Add", [xh, op("Mul", [reset, hh], "fresh/kept")], "fresh/sum")], "fresh")
    moved = op("Mul", [update, op("Sub", [state, fresh], "away")], "moved")
    after = op("Add", [fresh, moved], "after")
    out = op("Identity", [after], "out")
    return ir.Graph([state, entered], [after, out], nodes=new.nodes, name=name)
