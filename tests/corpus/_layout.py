"""Statements that move elements, or make and change shapes."""

from __future__ import annotations

from onnx import helper

from tests.corpus._program import WIDTH, B, F, I, Value, _Builder, wide


def transposed(b: _Builder) -> Value | None:
    v = b.pick(F, lambda v: len(v.dims) == 3)
    assert v is not None
    perm = [int(axis) for axis in b.rng.permutation(3)]
    back = [perm.index(axis) for axis in range(3)]
    once = b.op("Transpose", [v], perm=perm)
    if b.chance(0.4):
        once = b.op(b.choose(("Relu", "Tanh", "Neg")), [once])
    return b.keep(b.op("Transpose", [once], perm=back), F, v.dims)


def reshaped(b: _Builder) -> Value | None:
    """Heads set apart, or rows, and back: by a constant, by sizes, and by sizes that are computed."""
    v = b.pick(F, wide)
    assert v is not None
    sizes = [b.op("Shape", [v], start=axis, end=axis + 1) for axis in (0, 1)]
    match b.choose(("zero", "sizes", "rows", "product", "gathered")):
        case "zero":
            shape = b.ints(0, 0, 2, 4)
        case "sizes":
            shape = b.op("Concat", [*sizes, b.ints(2), b.ints(-1)], axis=0)
        case "rows":
            shape = b.ints(-1, 4)
        case "product":
            rows = b.op("Mul", [b.op("Mul", sizes), b.ints(2)])
            shape = b.op("Concat", [rows, b.ints(4)], axis=0)
        case _:
            whole_shape = b.op("Shape", [v])
            size = b.op("Unsqueeze", [b.op("Gather", [whole_shape, b.weight(1, "int64")], axis=0), b.ints(0)])
            shape = b.op("Concat", [sizes[0], size, b.ints(4), b.ints(2)], axis=0)
    moved = b.op(b.choose(("Tanh", "Identity", "Neg")), [b.op("Reshape", [v, shape])])
    target = b.op("Shape", [v])
    if b.chance(0.4):
        target = b.op("Concat", [*sizes, b.ints(WIDTH)], axis=0)
    return b.keep(b.op("Reshape", [moved, target]), F, v.dims)


def expanded(b: _Builder) -> Value | None:
    v = b.pick(F, lambda v: v.dims == ("B", "S", WIDTH))
    assert v is not None
    return b.keep(b.op("Expand", [b.normal(WIDTH), b.op("Shape", [v])]), F, v.dims)


def filled(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    value = helper.make_tensor("value", F, [1], [0.5])
    return b.keep(b.op("ConstantOfShape", [b.op("Shape", [v])], value=value), F, v.dims)


def positions(b: _Builder) -> Value | None:
    """0, 1, .. for each place, from the size of a value."""
    v = b.pick(F, lambda v: v.dims[:2] == ("B", "S"))
    assert v is not None
    size = b.op("Gather", [b.op("Shape", [v]), b.weight(1, "int64")], axis=0)
    numbers = b.op("Range", [b.weight(0, "int64"), size, b.weight(1, "int64")])
    return b.keep(b.op("Expand", [numbers, b.op("Shape", ["ids"])]), I, ("B", "S"))


def sliced(b: _Builder) -> Value | None:
    v = b.pick(F, wide)
    assert v is not None
    left = b.op("Slice", [v, b.ints(0), b.ints(4), b.ints(2)])
    right = b.op("Slice", [v, b.ints(4), b.ints(9223372036854775807), b.ints(-1), b.ints(1)])
    if b.chance(0.5):
        left, right = b.op("Split", [v], outputs=2, axis=-1, num_outputs=2)
    parts = [b.op("Neg", [right]), left] if b.chance(0.5) else [left, right]
    return b.keep(b.op("Concat", parts, axis=b.choose((-1, 2))), F, v.dims)


def shortened(b: _Builder) -> Value | None:
    """As many of its positions as an input says, and where it has them again all of them."""
    v = b.pick(F, lambda v: v.dims == ("B", "S", WIDTH))
    assert v is not None
    count = b.op("Unsqueeze", ["n", b.ints(0)])
    first = b.op("Slice", [v, b.ints(0), count, b.ints(1)])
    rest = b.op("Slice", [v, count, b.ints(9223372036854775807), b.ints(1)])
    if b.chance(0.5):
        first = b.op("Tanh", [first])
    return b.keep(b.op("Concat", [first, rest], axis=1), F, v.dims)


def chosen(b: _Builder) -> Value | None:
    """Sums over positions that a mask chooses: how many there are, values decide."""
    v = b.pick(F, lambda v: v.dims == ("B", "S", WIDTH))
    m = b.pick(B, lambda m: m.dims == ("B", "S"))
    if v is None or m is None:
        return None
    flat = b.op("Reshape", [v, b.ints(-1, WIDTH)])
    places = b.op("NonZero", [b.op("Reshape", [m, b.ints(-1)])])
    rows = b.op("Gather", [flat, b.op("Squeeze", [places, b.ints(0)])], axis=0)
    return b.keep(b.op("ReduceSum", [rows, b.ints(0)], keepdims=0), F, (WIDTH,))


def padded(b: _Builder) -> Value | None:
    v = b.pick(F, wide)
    assert v is not None
    larger = b.op("Pad", [v, b.ints(0, 0, 1, 0, 0, 1), b.weight(0.5)])
    return b.keep(b.op("Slice", [larger, b.ints(1), b.ints(-1), b.ints(2)]), F, v.dims)


def tiled(b: _Builder) -> Value | None:
    v = b.pick(F, wide)
    assert v is not None
    return b.keep(
        b.op(
            "ReduceMax",
            [b.op("Tile", [b.op("Unsqueeze", [v, b.ints(0)]), b.ints(2, 1, 1, 1)]), b.ints(0)],
            keepdims=0,
        ),
        F,
        v.dims,
    )


def triangle(b: _Builder) -> Value | None:
    v = b.pick(F, lambda v: len(v.dims) > 1)
    assert v is not None
    return b.keep(b.op("Trilu", [v], upper=int(b.chance(0.5))), F, v.dims)
