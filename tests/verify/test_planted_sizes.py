"""Edits that are wrong only at particular sizes, lengths and positions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graphopt.verify import EditVerifier
from tests.verify._planted_text import ALIKE, EXACT, Planted, holds, parameters

_RANGE = "s = Shape(x) n = Squeeze(s) p = Range(zero, n, one) "

LENGTHS = {
    "a-window-of-8192-off-by-one": Planted(
        "float[Q] x, float[K] w", "bool[Q,K] y", "d = Sub(q, k) y = Less(d, c)",
        "d = Sub(k, q) e = Neg(d) y = Less(e, c)",
        "d = Sub(q, k) y = LessOrEqual(d, c)",
        "int64 c = {8192}, int64 zero = {0}, int64 one = {1}, int64[1] last = {1}", EXACT,
        "s = Shape(w) n = Squeeze(s) k = Range(zero, n, one) t = Shape(x) m = Squeeze(t) f = Sub(n, m)"
        " r = Range(f, n, one) q = Unsqueeze(r, last)",
    ),
    "positions-in-half-precision": Planted(
        "float[S] x", "float[S] y", "y = Cast<to = 1>(p)", "d = Cast<to = 11>(p) y = Cast<to = 1>(d)",
        "h = Cast<to = 10>(p) y = Cast<to = 1>(h)", "int64 zero = {0}, int64 one = {1}", stays=_RANGE,
    ),
    "positions-in-bfloat16": Planted(
        "float[S] x", "float[S] y", "y = Cast<to = 1>(p)", "d = Cast<to = 11>(p) y = Cast<to = 1>(d)",
        "h = Cast<to = 16>(p) y = Cast<to = 1>(h)", "int64 zero = {0}, int64 one = {1}", stays=_RANGE,
    ),
    "positions-in-8-bits": Planted(
        "float[S] x", "float[S] y", "y = Cast<to = 1>(p)", "d = Cast<to = 6>(p) y = Cast<to = 1>(d)",
        "h = Cast<to = 2>(p) y = Cast<to = 1>(h)", "int64 zero = {0}, int64 one = {1}", stays=_RANGE,
    ),
    "positions-in-16-bits": Planted(
        "float[S] x", "float[S] y", "y = Cast<to = 1>(p)", "d = Cast<to = 6>(p) y = Cast<to = 1>(d)",
        "h = Cast<to = 5>(p) y = Cast<to = 1>(h)", "int64 zero = {0}, int64 one = {1}", stays=_RANGE,
    ),
    "positions-given-in-half-precision": Planted(
        "int64[S] p", "float[S] y", "y = Cast<to = 1>(p)", "d = Cast<to = 11>(p) y = Cast<to = 1>(d)",
        "h = Cast<to = 10>(p) y = Cast<to = 1>(h)",
    ),
    "the-last-three": Planted(
        "float[N] x", "float[M] y", "y = Slice(x, start, end)", "i = Identity(x) y = Slice(i, start, end)",
        "s = Shape(x) b = Add(s, start) y = Slice(x, b, end)",
        "int64[1] start = {-3}, int64[1] end = {9223372036854775807}",
    ),
    "exactly-eight": Planted(
        "float[N] x", "float[N] y", "y = Neg(x)", "y = Mul(x, minus)",
        "s = Shape(x) e = Equal(s, c) f = Cast<to = 1>(e) n = Neg(x) y = Sub(n, f)",
        "int64[1] c = {8}, float minus = {-1}",
    ),
    "a-cut-at-5000": Planted(
        "float[N] x", "float[M] y", "y = Slice(x, start, end)", "i = Identity(x) y = Slice(i, start, end)",
        "y = Slice(x, start, less)", "int64[1] start = {0}, int64[1] end = {5000}, int64[1] less = {4999}",
    ),
    "the-shorter-of-two": Planted(
        "float[N] x, float[M] w", "int64[1] y", "a = Shape(x) b = Shape(w) y = Min(a, b)",
        "a = Shape(x) b = Shape(w) y = Min(b, a)", "y = Shape(w)",
    ),
    "the-longer-of-two": Planted(
        "float[N] x, float[M] w", "int64[1] y", "a = Shape(x) b = Shape(w) y = Max(a, b)",
        "a = Shape(x) b = Shape(w) y = Max(b, a)", "y = Shape(x)",
    ),
    "two-sizes-alike": Planted(
        "float[N,M] x", "float[N,M] y", "y = Neg(x)", "y = Mul(x, minus)",
        "s = Shape<start = 0, end = 1>(x) t = Shape<start = 1>(x) e = Equal(s, t) f = Cast<to = 1>(e)"
        " n = Neg(x) y = Sub(n, f)",
        "float minus = {-1}",
    ),
    "a-row-of-a-table": Planted(
        "int64[N] i", "float[N] y", "f = Cast<to = 1>(i) y = Mul(f, half)",
        "f = Cast<to = 1>(i) y = Div(f, two)",
        "j = Min(i, c) k = Max(j, d) e = Equal(k, i) n = Not(e) g = Cast<to = 1>(n) f = Cast<to = 1>(i)"
        " h = Mul(f, half) y = Add(h, g)",
        "float half = {0.5}, float two = {2}, int64 c = {700}, int64 d = {-700}",
    ),
}  # fmt: skip

EMPTY = {
    "no-past": Planted(
        "float[P] past, float[S] x", "float[T] y", "y = Concat<axis = 0>(past, x)",
        "i = Identity(past) y = Concat<axis = 0>(i, x)",
        "n = Size(past) e = Equal(n, zero) f = Cast<to = 1>(e) a = Add(x, f) y = Concat<axis = 0>(past, a)",
        "int64 zero = {0}",
    ),
    "a-branch-for-no-past": Planted(
        "float[P] past, float[S] x", "float[S] y", "y = Neg(x)", "y = Mul(x, minus)",
        "n = Size(past) e = Equal(n, zero) y = If<then_branch = t () => (a) { a = Identity(x) },"
        " else_branch = f () => (b) { b = Neg(x) }>(e)",
        "int64 zero = {0}, float minus = {-1}",
    ),
    "the-mean-of-nothing": Planted(
        "float[B,N] x", "float[B] y", "y = ReduceMean<keepdims = 0>(x, last)",
        "n = Neg(x) m = ReduceMean<keepdims = 0>(n, last) y = Neg(m)",
        "s = ReduceSum<keepdims = 0>(x, last) t = Shape<start = 1>(x) f = Cast<to = 1>(t) y = Div(s, f)",
        "int64[1] last = {-1}", ALIKE,
    ),
    "one-row-squeezed": Planted(
        "float[B,1,N] x", "float[B,N] y", "y = Squeeze(x, middle)", "i = Identity(x) y = Squeeze(i, middle)",
        "y = Squeeze(x)", "int64[1] middle = {1}",
    ),
    "a-row-of-one": Planted(
        "float[B,N] x", "float[B,N] y", "y = Neg(x)", "y = Mul(x, minus)",
        "s = Shape<start = 1>(x) e = Equal(s, one) t = Shape<end = 1>(x) l = Greater(t, one) b = And(e, l)"
        " f = Cast<to = 1>(b) n = Neg(x) y = Sub(n, f)",
        "int64[1] one = {1}, float minus = {-1}",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def verifier() -> Iterator[EditVerifier]:
    with EditVerifier() as made:
        yield made


@pytest.mark.parametrize("planted", parameters(LENGTHS | EMPTY))
def test_particular_sizes(verifier: EditVerifier, planted: Planted) -> None:
    holds(verifier, planted)
