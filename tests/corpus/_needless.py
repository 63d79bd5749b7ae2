"""Statements that an optimizer can do without."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from tests.corpus._program import WIDTH, F, Value, _Builder, wide


def repeated(b: _Builder) -> Value | None:
    """The same node again, and what it gave before taken away."""
    v = b.pick(F)
    assert v is not None
    kind = b.choose(("Tanh", "Sigmoid", "Relu"))
    once, again = b.op(kind, [v]), b.op(kind, [v])
    return b.keep(b.op(b.choose(("Add", "Sub", "Mul")), [once, again]), F, v.dims)


def folded(b: _Builder) -> Value | None:
    """A constant that is computed, on a value."""
    v = b.pick(F, wide)
    assert v is not None
    constant: Any = b.op(b.choose(("Add", "Mul", "Sub")), [b.normal(WIDTH), b.normal(WIDTH)])
    return b.keep(b.op("Mul", [v, b.op("Sigmoid", [constant])]), F, v.dims)


def noop(b: _Builder) -> Value | None:
    v = b.pick(F, wide)
    assert v is not None
    match b.choose(("cast", "slice", "expand", "pad", "reshape", "concat", "squeeze")):
        case "cast":
            y = b.op("Cast", [b.op("Cast", [v], to=TensorProto.DOUBLE)], to=F)
        case "slice":
            y = b.op("Slice", [v, b.ints(0), b.ints(9223372036854775807), b.ints(1)])
        case "expand":
            y = b.op("Expand", [v, b.op("Shape", [v])])
        case "pad":
            y = b.op("Pad", [v, b.ints(0, 0, 0, 0, 0, 0)])
        case "reshape":
            y = b.op("Reshape", [v, b.op("Shape", [v])])
        case "concat":
            y = b.op("Concat", [v], axis=1)
        case _:
            y = b.op("Squeeze", [b.op("Unsqueeze", [v, b.ints(1)]), b.ints(1)])
    return b.keep(y, F, v.dims)
