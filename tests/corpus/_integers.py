"""Statements of bools and integers: comparing, choosing, rounding, looking up."""

from __future__ import annotations

from tests.corpus._program import WIDTH, B, F, I, Value, _Builder, wide


def compared(b: _Builder) -> Value | None:
    kind = b.choose((F, I))
    v = b.pick(kind)
    assert v is not None
    name = b.choose(("Less", "Greater", "LessOrEqual", "GreaterOrEqual", *(["Equal"] if kind == I else [])))
    bound = b.weight(0.25) if kind == F else b.weight(b.choose((0, 2, 5)), "int64")
    return b.keep(b.op(name, [v, b.like(v) if b.chance(0.3) else bound]), B, v.dims)


def logic(b: _Builder) -> Value | None:
    v = b.pick(B)
    assert v is not None
    if b.chance(0.4):
        return b.keep(b.op("Not", [v]), B, v.dims)
    other = b.like(v) if b.chance(0.6) else b.weight(b.chance(0.5), bool)
    return b.keep(b.op(b.choose(("And", "Or", "Xor")), [v, other]), B, v.dims)


def where(b: _Builder) -> Value | None:
    v = b.pick(b.choose((F, I)))
    assert v is not None
    chosen = b.pick(B, lambda c: c.dims in (v.dims, ()))
    if chosen is None:
        return None
    return b.keep(b.op("Where", [chosen, v, b.like(v)]), v.kind, v.dims)


def masked(b: _Builder) -> Value | None:
    v = b.pick(F, lambda v: v.dims == ("B", "S", WIDTH))
    m = b.pick(B, lambda m: m.dims == ("B", "S"))
    if v is None or m is None:
        return None
    wide = b.op("Unsqueeze", [m, b.ints(-1)])
    if b.chance(0.5):
        return b.keep(b.op("Where", [wide, v, b.weight(0)]), F, v.dims)
    return b.keep(b.op("Mul", [v, b.op("Cast", [wide], to=F)]), F, v.dims)


def whole(b: _Builder) -> Value | None:
    v = b.pick(I)
    assert v is not None
    kind = b.choose(("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Neg", "Abs"))
    if kind in ("Neg", "Abs"):
        return b.keep(b.op(kind, [v]), I, v.dims)
    other = b.weight(b.choose((1, 2, 3, 7)), "int64")
    if kind in ("Add", "Sub", "Max", "Min") and b.chance(0.5):
        other = b.like(v)
    return b.keep(b.op(kind, [v, other]), I, v.dims)


def rounded(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    bounded = b.op("Clip", [b.op("Mul", [v, b.weight(3)]), b.weight(-50), b.weight(50)])
    return b.keep(b.op("Cast", [bounded], to=I), I, v.dims)


def as_float(b: _Builder) -> Value | None:
    v = b.pick(b.choose((I, B)))
    assert v is not None
    bounded = b.op("Mod", [v, b.weight(11, "int64")]) if v.kind == I else v
    return b.keep(b.op("Cast", [bounded], to=F), F, v.dims)


def looked_up(b: _Builder) -> Value | None:
    v = b.pick(I, lambda v: v.dims == ("B", "S"))
    assert v is not None
    rows = b.op("Mod", [v, b.weight(5, "int64")])
    return b.keep(b.op("Gather", [b.normal(5, WIDTH), rows], axis=0), F, (*v.dims, WIDTH))


def summed(b: _Builder) -> Value | None:
    v = b.pick(b.choose((F, I)), lambda v: len(v.dims) > 1)
    if v is None:
        return None
    return b.keep(b.op("CumSum", [v, b.weight(1, "int64")], exclusive=int(b.chance(0.3))), v.kind, v.dims)


def best(b: _Builder) -> Value | None:
    v = b.pick(F, wide)
    assert v is not None
    if b.chance(0.5):
        return b.keep(b.op("ArgMax", [v], axis=2, keepdims=0), I, v.dims[:2])
    values, places = b.op("TopK", [v, b.ints(2)], outputs=2, axis=-1)
    b.keep(places, I, (*v.dims[:2], 2))
    return b.keep(values, F, (*v.dims[:2], 2))
