"""Faults written down before the verifier was widened, by others: a right and a wrong edit each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import infer_types, parse
from graphopt.pipeline import Contract
from graphopt.verify import EditVerifier
from tests.verify._planted import Build, instead

EXACT, ALIKE = Contract.exact(), Contract.reassociates()
HEAD = '<ir_version: 10, opset_import: ["" : 23]>\n'


def number(tape: ir.tape.Tape, value: object, dtype: object = np.int64) -> ir.Value:
    return tape.initializer(ir.tensor(np.asarray(value, dtype)), f"number-{len(tape.initializers)}")


def f32(tape: ir.tape.Tape, value: object) -> ir.Value:
    return number(tape, value, np.float32)


def op(name: str, **attributes: Any) -> Build:
    return lambda t, n: t.op(name, list(n.inputs), attributes)


def second(value: object, dtype: object = np.int64) -> Build:
    """The same operator with another second input."""
    return lambda t, n: t.op(
        n.op_type, [n.inputs[0], number(t, value, dtype), *n.inputs[2:]], dict(n.attributes)
    )


def drop(t: ir.tape.Tape, n: ir.Node) -> ir.Value:
    return t.op("Identity", [n.inputs[0]])


def other_row(t: ir.tape.Tape, n: ir.Node) -> ir.Value:
    table = n.inputs[0].const_value.numpy().copy()
    table[4321] *= 1.5
    return t.op("Gather", [f32(t, table), n.inputs[1]])


def floor_plus_one(t: ir.tape.Tape, n: ir.Node) -> ir.Value:
    return t.op("Add", [t.op("Floor", [n.inputs[0]]), f32(t, 1)])


def through(kind: int, back: int) -> Build:
    return lambda t, n: t.op(
        n.op_type,
        [t.op("Cast", [t.op("Cast", [n.inputs[0]], {"to": kind})], {"to": back}), *n.inputs[1:]],
        dict(n.attributes),
    )


def sign_by_where(t: ir.tape.Tape, n: ir.Node) -> ir.Value:
    return t.op("Where", [t.op("GreaterOrEqual", [n.inputs[0], f32(t, 0)]), f32(t, 1), f32(t, -1)])


PLANTED: dict[str, tuple[str, Contract, Build]] = {
    "clip-at-6-by-6.5": (
        "g (float[N,8] x) => (float[N,8] z) <float lo = {0}, float hi = {6}> { a = Identity(x) "
        "y = Clip(a, lo, hi) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Clip", [n.inputs[0], n.inputs[1], f32(t, 6.5)]),
    ),
    "one-row-of-a-large-table": ("table", EXACT, other_row),
    "less-than-4096": (
        "g (int64[N] i) => (bool[N] z) <int64 c = {4096}> { a = Identity(i) y = Less(a, c) z = Not(y) }",
        EXACT,
        op("LessOrEqual"),
    ),
    "fmod-for-mod": (
        "g (int64[N] i) => (int64[N] z) <int64 c = {7}> { a = Identity(i) y = Mod(a, c) z = Neg(y) }",
        EXACT,
        op("Mod", fmod=1),
    ),
    "and-255-dropped": (
        "g (int64[N] i) => (int64[N] z) <int64 c = {255}> { a = Identity(i) y = BitwiseAnd(a, "
        "c) z = Neg(y) }",
        EXACT,
        drop,
    ),
    "cast-through-int8": (
        "g (int64[N] i) => (int64[N] z) <int64 c = {256}> { a = Abs(i) b = Mod(a, c) y = Neg(b) z = Neg(y) }",
        EXACT,
        through(3, 7),
    ),
    "truncation-by-floor": (
        "g (float[N] x) => (float[N] z) { a = Neg(x) b = Cast<to = 7>(a) y = Cast<to = 1>(b) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Floor", [n.inputs[0].producer().inputs[0]]),
    ),
    "ceil-at-whole-numbers": (
        "g (float[N] x) => (float[N] z) { a = Identity(x) y = Ceil(a) z = Neg(y) }",
        EXACT,
        floor_plus_one,
    ),
    "sign-of-zero": (
        "g (float[N] x) => (float[N] z) { a = Identity(x) y = Sign(a) z = Neg(y) }",
        EXACT,
        sign_by_where,
    ),
    "float-equal-3": (
        "g (float[N] x) => (bool[N] z) <float c = {3}> { a = Identity(x) y = Equal(a, c) z = Not(y) }",
        EXACT,
        second(3.5, np.float32),
    ),
    "slice-1000": (
        "g (float[N,2] x) => (float[N,2] z) <int64[1] s = {0}, int64[1] e = {1000}> { a = "
        "Neg(x) y = Slice(a, s, e) z = Neg(y) }",
        EXACT,
        drop,
    ),
    "argmax-of-ties": (
        "g (float[N,8] x) => (int64[N,1] z) { a = Identity(x) y = ArgMax<axis = 1>(a) z = Identity(y) }",
        EXACT,
        op("ArgMax", axis=1, select_last_index=1),
    ),
    "exp-unclipped": (
        "g (float[N] x) => (float[N] z) <float lo = {-80}, float hi = {80}> { a = Identity(x) y "
        "= Clip(a, lo, hi) z = Exp(y) }",
        EXACT,
        drop,
    ),
    "nan-to-zero": (
        "g (float[N] x) => (float[N] z) <float c = {0}> { m = IsNaN(x) y = Where(m, c, x) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Identity", [n.inputs[2]]),
    ),
    "inf-to-zero": (
        "g (float[N] x) => (float[N] z) <float c = {0}> { m = IsInf(x) y = Where(m, c, x) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op("Identity", [n.inputs[2]]),
    ),
    "double-in-single": (
        "g (double[N] x) => (double[N] z) { a = Neg(x) y = Exp(a) z = Neg(y) }",
        ALIKE,
        through(1, 11),
    ),
    "negative-is-true": (
        "g (int64[N] m) => (bool[N] z) { a = Identity(m) y = Cast<to = 9>(a) z = Not(y) }",
        EXACT,
        lambda t, n: t.op("Greater", [n.inputs[0], number(t, 0)]),
    ),
    "xor-by-or": (
        "g (bool[N] p, bool[N] q) => (bool[N] z) { a = Not(p) y = Xor(a, q) z = Not(y) }",
        EXACT,
        op("Or"),
    ),
    "window-of-512-positions": (
        "g (float[S,4] x) => (bool[S,S] z) <int64 zero = {0}, int64 one = {1}, int64 c = {512}, "
        "int64[1] ax = {1}, int64[1] ax0 = {0}, int64 first = {0}> "
        "{ sh = Shape(x) n = Gather(sh, first) r = Range(zero, n, one) i = Unsqueeze(r, ax) j = "
        "Unsqueeze(r, ax0) d = Sub(i, j) y = Less(d, c) z = Not(y) }",
        EXACT,
        second(511),
    ),
    "epsilon-1e-12": (
        "g (float[N,4] x) => (float[N,4] z) <float[4] w = {1, 1, 1, 1}> { a = Neg(x) y = "
        "LayerNormalization<epsilon = 1e-12>(a, w) z = Neg(y) }",
        ALIKE,
        op("LayerNormalization", epsilon=1e-9),
    ),
    "division-by-zero-guard": (
        "g (float[N,4] x, float[N,4] d) => (float[N,4] z) <float e = {0.000001}> { a = Abs(d) y "
        "= Add(a, e) z = Div(x, y) }",
        ALIKE,
        drop,
    ),
    "branch-on-length-100": (
        "g (float[S] x) => (float[S] z) <int64 first = {0}, int64 c = {100}> { sh = Shape(x) n "
        "= Gather(sh, first) b = Greater(n, c) "
        "y = If (b) <then_branch = t () => (tt) { tt = Neg(x) }, else_branch = e () => (ee) { "
        "ee = Identity(x) }> z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Identity", [n.graph.inputs[0]]),
    ),
    "clamped-index": (
        "g (float[32,4] w, int64[N] i) => (float[N,4] z) <int64 lo = {0}, int64 hi = {31}> { a "
        "= Identity(i) c = Clip(a, lo, hi) y = Gather(w, c) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op(
            "Gather",
            [n.inputs[0], t.op("Clip", [n.inputs[1].producer().inputs[0], number(t, 0), number(t, 30)])],
        ),
    ),
    "positions-in-half": (
        "g (float[S,4] x) => (float[S] z) <int64 zero = {0}, int64 one = {1}, int64 first = "
        "{0}, float two = {2}> "
        "{ sh = Shape(x) n = Gather(sh, first) r = Range(zero, n, one) f = Cast<to = 1>(r) y = "
        "Mul(f, two) z = Neg(y) }",
        EXACT,
        through(16, 1),
    ),
    "fully-masked-softmax": (
        "g (float[N,8] x, bool[N,8] m) => (float[N,8] z) <float c = {-10000}, float zero = {0}> "
        "{ b = Where(m, zero, c) y = Add(x, b) z = Softmax(y) }",
        ALIKE,
        lambda t, n: t.op("Add", [n.inputs[0], t.op("Mul", [n.inputs[1], f32(t, 2)])]),
    ),
    "ids-to-50256": (
        "g (int64[N] i) => (int64[N] z) <int64 lo = {0}, int64 hi = {50256}> { a = Identity(i) "
        "y = Clip(a, lo, hi) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Clip", [n.inputs[0], n.inputs[1], number(t, 50255)]),
    ),
    "between-thresholds": (
        "g (float[N] x) => (bool[N] z) <float lo = {0.3}, float hi = {0.7}> { p = Greater(x, "
        "lo) y = Less(x, hi) z = And(p, y) }",
        EXACT,
        op("LessOrEqual"),
    ),
    "uint16-65535": (
        "g (uint16[N] i) => (bool[N] z) <uint16 c = {65535}> { a = Identity(i) y = Equal(a, c) z = Not(y) }",
        EXACT,
        second(65534, np.uint16),
    ),
    "ignored-index": (
        "g (int64[N] i) => (int64[N] z) <int64 c = {-100}, int64 zero = {0}> { m = Equal(i, c) "
        "y = Where(m, zero, i) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Identity", [n.inputs[2]]),
    ),
    "lowest-of-int32": (
        "g (int32[N] i) => (int64[N] z) { a = Identity(i) y = Cast<to = 7>(a) z = Abs(y) }",
        EXACT,
        lambda t, n: t.op(
            "Cast",
            [
                t.op(
                    "Neg",
                    [
                        t.op(
                            "Neg",
                            [
                                t.op(
                                    "Cast",
                                    [t.op("Max", [n.inputs[0], number(t, -2147483647, np.int32)])],
                                    {"to": 7},
                                )
                            ],
                        )
                    ],
                )
            ],
            {"to": 7},
        ),
    ),
    "product-then-quotient": (
        "g (int32[N] i) => (int32[N] z) <int32 c = {1000}> { a = Identity(i) b = Mul(a, c) y = "
        "Div(b, c) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Identity", [n.inputs[0].producer().inputs[0]]),
    ),
    "relu-eats-nan": (
        "g (float[N] x) => (float[N] z) { a = Neg(x) y = Relu(a) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op("Where", [t.op("Greater", [n.inputs[0], f32(t, 0)]), n.inputs[0], f32(t, 0)]),
    ),
    "round-half-up": (
        "g (float[N] x) => (float[N] z) { a = Identity(x) y = Round(a) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Floor", [t.op("Add", [n.inputs[0], f32(t, 0.5)])]),
    ),
    "tanh-saturates-at-5": (
        "g (float[N] x) => (float[N] z) { a = Identity(x) y = Tanh(a) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op("Tanh", [t.op("Clip", [n.inputs[0], f32(t, -4), f32(t, 4)])]),
    ),
    "leaky-at-minus-100": (
        "g (float[N] x) => (float[N] z) { a = Neg(x) y = Identity(a) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Max", [n.inputs[0], f32(t, -100)]),
    ),
    "int64-in-float": (
        "g (int64[N] i) => (int64[N] z) <int64 c = {2}> { a = Identity(i) y = Mul(a, c) z = Neg(y) }",
        EXACT,
        through(1, 7),
    ),
    "int8-saturates": (
        "g (int8[N] i, int8[N] j) => (int32[N] z) { a = Cast<to = 6>(i) b = Cast<to = 6>(j) y = "
        "Add(a, b) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op(
            "Clip", [t.op("Add", list(n.inputs)), number(t, -200, np.int32), number(t, 254, np.int32)]
        ),
    ),
    "negative-gather": (
        "g (float[9,4] w, int64[N] i) => (float[N,4] z) { a = Identity(i) y = Gather(w, a) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Gather", [n.inputs[0], t.op("Max", [n.inputs[1], number(t, 0)])]),
    ),
    "greater-100": (
        "g (float[N] x) => (bool[N] z) <float c = {100}> { a = Identity(x) y = Greater(a, c) z = Not(y) }",
        EXACT,
        second(120, np.float32),
    ),
    "thresholded-relu": (
        "g (float[N] x) => (float[N] z) { a = Identity(x) y = ThresholdedRelu<alpha = 10.0>(a) z = Neg(y) }",
        EXACT,
        op("ThresholdedRelu", alpha=10.5),
    ),
    "diagonal-100": (
        "g (float[N,M] x) => (float[N,M] z) <int64 k = {100}> { a = Neg(x) y = Trilu(a, k) z = Neg(y) }",
        EXACT,
        second(101),
    ),
    "last-300": (
        "g (float[N] x) => (float[M] z) <int64[1] s = {-300}, int64[1] e = "
        "{9223372036854775807}> { a = Neg(x) y = Slice(a, s, e) z = Neg(y) }",
        EXACT,
        drop,
    ),
    "softcap": (
        "g (float[N,4] x) => (float[N,4] z) <float c = {30}> { a = Div(x, c) b = Tanh(a) y = "
        "Mul(b, c) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op("Identity", [n.inputs[0].producer().inputs[0].producer().inputs[0]]),
    ),
    "branch-of-a-flag": (
        "g (float[N] x, bool f) => (float[N] z) { y = If (f) <then_branch = t () => (tt) { tt = "
        "Neg(x) }, else_branch = e () => (ee) { ee = Abs(x) }> z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Neg", [n.graph.inputs[0]]),
    ),
    "int32-sums": (
        "g (int64[N] i) => (int64[N] z) <int64 ax = {0}> { a = Identity(i) y = CumSum(a, ax) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op(
            "Cast", [t.op("CumSum", [t.op("Cast", [n.inputs[0]], {"to": 6}), n.inputs[1]])], {"to": 7}
        ),
    ),
    "depth-1000": (
        "g (int64[N] i) => (int64[N,1000] z) <int64 d = {1000}, int64[2] v = {0, 1}> { a = "
        "Identity(i) y = OneHot(a, d, v) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("OneHot", [t.op("Min", [n.inputs[0], number(t, 998)]), *n.inputs[1:]]),
    ),
    "root-of-negatives": (
        "g (float[N] x) => (float[N] z) { a = Identity(x) y = Sqrt(a) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op("Sqrt", [t.op("Abs", list(n.inputs))]),
    ),
    "log-of-zero": (
        "g (float[N] x) => (float[N] z) { a = Abs(x) y = Log(a) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op("Log", [t.op("Max", [n.inputs[0], f32(t, 1e-30)])]),
    ),
    "saturates-at-minus-127": (
        "g (float[N] x) => (int8[N] z) <float s = {0.05}, int8 p = {0}> { a = Identity(x) y = "
        "QuantizeLinear(a, s, p) z = Identity(y) }",
        EXACT,
        lambda t, n: t.op("Max", [t.op("QuantizeLinear", list(n.inputs)), number(t, -127, np.int8)]),
    ),
    "clip-tiny": (
        "g (float[N] x) => (float[N] z) <float lo = {0.000001}> { a = Abs(x) y = Max(a, lo) z = Log(y) }",
        ALIKE,
        drop,
    ),
    "integer-floor-division": (
        "g (int64[N] i) => (int64[N] z) <int64 c = {16}> { a = Identity(i) y = Div(a, c) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op(
            "Cast",
            [
                t.op(
                    "Floor",
                    [t.op("Div", [t.op("Cast", [n.inputs[0]], {"to": 11}), number(t, 16, np.float64)])],
                )
            ],
            {"to": 7},
        ),
    ),
    "pad-token-0": (
        "g (int64[N] i) => (bool[N] z) <int64 c = {0}> { a = Identity(i) y = Equal(a, c) z = Not(y) }",
        EXACT,
        op("LessOrEqual"),
    ),
    "token-151643": (
        "g (int64[N] i) => (int64[N] z) <int64 c = {151643}, int64 v = {7}> { m = Equal(i, c) y "
        "= Where(m, v, i) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op(
            "Where", [t.op("Equal", [n.inputs[2], number(t, 151642)]), n.inputs[1], n.inputs[2]]
        ),
    ),
    "scale-of-1-1000th": (
        "g (float[N,8] x, float[8,8] w) => (float[N,8] z) { a = Neg(x) y = MatMul(a, w) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op("Mul", [t.op("MatMul", list(n.inputs)), f32(t, 1.001)]),
    ),
    "one-output-dropped": (
        "g (float[N,8] x, float[8,8] w, float[8] b) => (float[N,8] z) { a = Neg(x) y = Gemm(a, "
        "w, b) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op(
            "Gemm", [n.inputs[0], n.inputs[1], t.op("Mul", [n.inputs[2], f32(t, [1] * 7 + [0])])]
        ),
    ),
    "mean-for-sum": (
        "g (float[N,S] x) => (float[N,1] z) <int64[1] ax = {1}> { a = Neg(x) y = ReduceSum(a, "
        "ax) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op("Mul", [t.op("ReduceMean", list(n.inputs)), f32(t, 7)]),
    ),
    "gelu-by-tanh": (
        "g (float[N,8] x) => (float[N,8] z) { a = Neg(x) y = Gelu(a) z = Neg(y) }",
        ALIKE,
        op("Gelu", approximate="tanh"),
    ),
    "swapped-when-square": (
        "g (float[N,M] x) => (float[M,N] z) { a = Neg(x) y = Transpose<perm = [1, 0]>(a) z = Neg(y) }",
        EXACT,
        drop,
    ),
    "bf16-of-positions": (
        "g (int64[N] p) => (float[N] z) { a = Identity(p) y = Cast<to = 1>(a) z = Sin(y) }",
        ALIKE,
        lambda t, n: t.op("Cast", [t.op("Cast", [n.inputs[0]], {"to": 16})], {"to": 1}),
    ),
    "cap-at-2048-length": (
        "g (float[B,S,4] x) => (float[B,T,4] z) <int64[1] s = {0}, int64[1] e = {2048}, "
        "int64[1] ax = {1}> { a = Neg(x) y = Slice(a, s, e, ax) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Slice", [*n.inputs[:2], number(t, [2047]), n.inputs[3]]),
    ),
    "nan-in-min": (
        "g (float[N] x, float[N] w) => (float[N] z) { a = Neg(x) y = Min(a, w) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op("Where", [t.op("Less", list(n.inputs)), *n.inputs]),
    ),
}


def _model(name: str) -> ir.Model:
    text = PLANTED[name][0]
    if text == "table":
        model = parse(
            HEAD + "g (int64[N] i, float[5000,4] w) => (float[N,4] z) { y = Gather(w, i) z = Neg(y) }"
        )
        value = model.graph.inputs.pop(1)
        value.const_value = ir.tensor(np.random.default_rng(0).standard_normal((5000, 4)).astype(np.float32))
        model.graph.register_initializer(value)
    else:
        model = parse(HEAD + text)
    infer_types(model)
    return model


def same(t: ir.tape.Tape, n: ir.Node) -> ir.Value:
    return t.op(n.op_type, list(n.inputs), dict(n.attributes))


@pytest.fixture(scope="module")
def verifier() -> Iterator[EditVerifier]:
    with EditVerifier() as made:
        yield made


@pytest.mark.parametrize("name", [n for n in PLANTED if not n.startswith("branch-")])
def test_the_same_again_is_proven(verifier: EditVerifier, name: str) -> None:
    model = _model(name)
    found = verifier.check(model, instead(model, "y", same), PLANTED[name][1])
    assert found.status == "proven", found


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_wrong_is_found(verifier: EditVerifier, name: str) -> None:
    model = _model(name)
    found = verifier.check(model, instead(model, "y", PLANTED[name][2]), PLANTED[name][1])
    assert (found.status, bool(found.reason)) == ("failed", True)


def test_a_count_in_half_precision_is_looked_at_without_a_warning(verifier: EditVerifier) -> None:
    """Its constant is a float16, which no large integer fits into."""
    two = "{16384}"  # its bits
    text = f"g (int64[N] i) => (float16[N] z) <float16 c = {two}> "
    text += "{ f = Cast<to = 10>(i) y = Mul(f, c) z = Neg(y) }"
    model = parse(HEAD + text)
    infer_types(model)
    assert verifier.check(model, instead(model, "y", same), EXACT).status == "proven"
