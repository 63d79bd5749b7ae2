"""Graphs that hypothesis makes: well-formed, small, and full of what passes forget."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from graphopt.testing._example import Example

__all__ = ["programs"]

# {a}, {b}: values so far, float[dims]; {y}: the new one; {t}: a prefix for inner names; {dims}: the shape.
_STATEMENTS = (
    "{y} = Neg({a})",
    "{y} = Relu({a})",
    "{y} = Sigmoid({a})",
    "{y} = Tanh({a})",
    "{y} = Identity({a})",
    "{y} = Add({a}, {b})",
    "{y} = Sub({a}, {b})",
    "{y} = Mul({a}, {b})",
    "{y} = Add({a}, zero)",
    "{y} = Mul({a}, one)",
    "{y} = Add(bias, {a})",
    "{y} = Mul({a}, same_bias)",
    "{y} = MatMul({a}, weight)",
    "{y} = MatMul({a}, same_weight)",
    "{t}w = Transpose<perm = [1, 0]>(weight) {y} = MatMul({a}, {t}w)",
    "{t}n = Neg({a}) {y} = Neg({t}n)",
    "{t}c = Add(bias, same_bias) {y} = Add({a}, {t}c)",
    "{t}s = Shape({a}) {y} = Reshape({b}, {t}s)",
    "{y} = Transpose<perm = [0, 1, 2]>({a})",
    "{t}p = Transpose<perm = [2, 0, 1]>({a}) {y} = Transpose<perm = [1, 2, 0]>({t}p)",
    "{y} = Cast<to = 1>({a})",
    "{y} = Clip({a}, , top)",
    "{y} = Slice({a}, begin, end, , step)",
    "{y} = Dropout({a})",
    "{t}g = Sigmoid({a}) {y} = Mul({a}, {t}g)",
    "{y} = If(flag) <"
    "then_branch = {t}yes () => (float[{dims}] {t}1) {{ {t}2 = Neg({a}) {t}1 = Add({t}2, {b}) }}, "
    "else_branch = {t}no () => (float[{dims}] {t}3) {{ {t}4 = Mul({a}, one) {t}3 = Sub({t}4, {b}) }}>",
    "{y} = Loop(times, , {a}) <body = {t}step (int64 {t}i, bool {t}c, float[{dims}] {t}v) "
    "=> (bool {t}k, float[{dims}] {t}w) {{ {t}k = Identity({t}c) {t}r = Relu({b}) {t}w = Add({t}v, {t}r) }}>",
)
_DIMS = ("B,S,4", "2,S,4", "B,3,4", "?,S,4", "?,?,4", "0,S,4")
_WEIGHTS = """<
  float zero = {0.0}, float one = {1.0}, float top = {0.5}, int64 times = {2},
  float[4] bias = {0.5, -1.0, 0.25, 2.0}, float[4] same_bias = {0.5, -1.0, 0.25, 2.0},
  float[4,4] weight = {0.5, 1, 0, -1, 0.25, -0.5, 1, 0, 1, 0, -0.25, 0.5, 0, 0.75, -1, 0.5},
  float[4,4] same_weight = {0.5, 1, 0, -1, 0.25, -0.5, 1, 0, 1, 0, -0.25, 0.5, 0, 0.75, -1, 0.5},
  int64[1] begin = {0}, int64[1] end = {9223372036854775807}, int64[1] step = {1}
>"""
_BIND = "B=2,S=3,?=3; B=1,S=1,?=1; B=0,S=2,?=0"


@st.composite
def programs(draw: st.DrawFn) -> Example:
    """Graphs of up to eight statements over float[dims], with one to three outputs."""
    dims = draw(st.sampled_from(_DIMS))
    values = ["x"]
    statements = []
    for number, statement in enumerate(draw(st.lists(st.sampled_from(_STATEMENTS), min_size=1, max_size=8))):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        statements.append(statement.format(y=f"v{number}", t=f"v{number}_", a=a, b=b, dims=dims))
        values.append(f"v{number}")
    outputs = draw(st.lists(st.sampled_from(values[1:]), min_size=1, max_size=3, unique=True))
    declared = ", ".join(f"float[{dims}] {name}" for name in outputs)
    body = "\n  ".join(statements)
    graph = (
        '<ir_version: 10, opset_import: ["" : 23]>\n'
        f"g (float[{dims}] x, bool flag) => ({declared})\n{_WEIGHTS}\n{{\n  {body}\n}}\n"
    )
    return Example(Path("generated", "graph"), {"bind": _BIND}, graph)
