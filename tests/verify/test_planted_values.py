"""Edits that are wrong only for particular values: at a constant, a type's limit, a tie, next to zero."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graphopt.verify import EditVerifier
from tests.verify._planted_text import ALIKE, Planted, holds, parameters

INTEGERS = {
    "another-token": Planted(
        "int64[N] i", "bool[N] y", "y = Equal(i, c)", "y = Equal(c, i)", "y = Equal(i, d)",
        "int64 c = {50257}, int64 d = {50256}",
    ),
    "another-token-that-is-an-index-too": Planted(
        "int64[N] i, float[50300,1] x", "float[N,1] y",
        "e = Equal(i, c) f = Cast<to = 1>(e) u = Unsqueeze(f, one) g = Gather(x, i) y = Add(g, u)",
        "g = Gather(x, i) e = Equal(c, i) f = Cast<to = 1>(e) u = Unsqueeze(f, one) y = Add(g, u)",
        "e = Equal(i, d) f = Cast<to = 1>(e) u = Unsqueeze(f, one) g = Gather(x, i) y = Add(g, u)",
        "int64 c = {50257}, int64 d = {50256}, int64[1] one = {1}",
    ),
    "at-most-for-less": Planted(
        "int64[N] i", "bool[N] y", "y = Less(i, c)", "y = Greater(c, i)", "y = LessOrEqual(i, c)",
        "int64 c = {1000}",
    ),
    "a-sum-at-a-constant": Planted(
        "int64[N] i", "bool[N] y", "j = Add(i, d) y = Equal(j, c)", "j = Add(d, i) y = Equal(j, c)",
        "y = Less(c, c)", "int64 c = {50257}, int64 d = {3}",
    ),
    "a-window-off-by-one": Planted(
        "int64[Q,1] q, int64[K] k", "bool[Q,K] y", "d = Sub(q, k) y = Less(d, c)",
        "d = Sub(k, q) e = Neg(d) y = Less(e, c)", "d = Sub(q, k) y = LessOrEqual(d, c)",
        "int64 c = {8192}",
    ),
    "a-scalar-at-a-constant": Planted(
        "int64 n, float[N] x", "float[N] y", "e = Equal(n, c) f = Neg(x) y = Where(e, x, f)",
        "e = Equal(c, n) f = Neg(x) y = Where(e, x, f)", "e = Equal(n, d) f = Neg(x) y = Where(e, x, f)",
        "int64 c = {31}, int64 d = {30}",
    ),
    "32-bits-beside-an-index": Planted(
        "int64[N] i, int64[N] j, float[N,2] x", "float[N,2] y",
        "g = Gather(x, i) h = Mul(j, two) f = Cast<to = 1>(h) u = Unsqueeze(f, one) y = Add(g, u)",
        "h = Add(j, j) f = Cast<to = 1>(h) u = Unsqueeze(f, one) g = Gather(x, i) y = Add(g, u)",
        "s = Cast<to = 6>(j) h = Add(s, s) f = Cast<to = 1>(h) u = Unsqueeze(f, one) g = Gather(x, i)"
        " y = Add(g, u)",
        "int64 two = {2}, int64[1] one = {1}",
    ),
    "division-of-negatives": Planted(
        "int64[N] i", "int64[N] y", "y = Div(i, c)", "k = Identity(i) y = Div(k, c)",
        "m = Mod(i, c) d = Sub(i, m) y = Div(d, c)", "int64 c = {2}",
    ),
    "division-by-an-input": Planted(
        "int64[N] i, int64[N] j", "int64[N] y", "y = Div(i, j)", "k = Identity(i) y = Div(k, j)",
        "m = Mod(i, j) d = Sub(i, m) y = Div(d, j)",
    ),
    "the-sign-of-a-rest": Planted(
        "int32[N] i", "int32[N] y", "y = Mod(i, c)", "k = Identity(i) y = Mod(k, c)",
        "y = Mod<fmod = 1>(i, c)",
        "int32 c = {5}",
    ),
    "the-largest-of-8-bits": Planted(
        "uint8[N] i", "bool[N] y", "y = Equal(i, c)", "y = Equal(c, i)", "y = Less(i, z)",
        "uint8 c = {255}, uint8 z = {0}",
    ),
    "the-smallest-of-8-bits": Planted(
        "int8[N] i", "int8[N] y", "y = Identity(i)", "y = Max(i, i)", "y = Max(i, c)", "int8 c = {-127}",
    ),
    "the-smallest-of-16-bits": Planted(
        "int16[N] i", "int32[N] y", "y = Cast<to = 6>(i)", "w = Cast<to = 7>(i) y = Cast<to = 6>(w)",
        "w = Cast<to = 6>(i) y = Max(w, c)", "int32 c = {-32767}",
    ),
    "signed-for-unsigned": Planted(
        "uint8[N] i", "float[N] y", "f = Cast<to = 1>(i) y = Sub(f, c)",
        "w = Cast<to = 6>(i) f = Cast<to = 1>(w) y = Sub(f, c)",
        "w = Cast<to = 3>(i) f = Cast<to = 1>(w) y = Sub(f, c)", "float c = {128}",
    ),
    "an-overflow-that-saturates": Planted(
        "int32[N] i", "int32[N] y", "y = Add(i, i)", "y = Mul(i, two)",
        "w = Cast<to = 7>(i) s = Add(w, w) t = Min(s, most) u = Max(t, least) y = Cast<to = 6>(u)",
        "int32 two = {2}, int64 most = {2147483647}, int64 least = {-2147483648}",
    ),
    "a-wrap-that-saturates": Planted(
        "uint8[N] i, uint8[N] j", "uint8[N] y", "y = Sub(i, j)",
        "a = Cast<to = 6>(i) b = Cast<to = 6>(j) d = Sub(a, b) y = Cast<to = 2>(d)",
        "a = Cast<to = 6>(i) b = Cast<to = 6>(j) d = Sub(a, b) e = Max(d, z) y = Cast<to = 2>(e)",
        "int32 z = {0}",
    ),
    "32-bits-through-floats": Planted(
        "int32[N] i", "int32[N] y", "y = Add(i, one)", "y = Sub(i, less)",
        "f = Cast<to = 1>(i) g = Add(f, fone) y = Cast<to = 6>(g)",
        "int32 one = {1}, int32 less = {-1}, float fone = {1}",
    ),
    "a-negative-index": Planted(
        "float[N,3] x, int64[M] i", "float[M,3] y", "y = Gather(x, i)", "k = Identity(i) y = Gather(x, k)",
        "k = Max(i, z) y = Gather(x, k)", "int64 z = {0}",
    ),
    "one-hot-of-negatives": Planted(
        "int64[N] i", "float[N,6] y", "y = OneHot(i, depth, v)", "k = Identity(i) y = OneHot(k, depth, v)",
        "k = Unsqueeze(i, one) e = Equal(k, all) y = Cast<to = 1>(e)",
        "int64 depth = {6}, float[2] v = {0, 1}, int64[1] one = {1}, int64[6] all = {0, 1, 2, 3, 4, 5}",
    ),
    "the-last-row-of-a-table": Planted(
        "int64[N] i", "float[N] y", "y = Gather(t, i)", "k = Identity(i) y = Gather(t, k)",
        "y = Gather(u, i)",
        "float[9] t = {0, 1, 2, 3, 4, 5, 6, 7, 8}, float[9] u = {0, 1, 2, 3, 4, 5, 6, 7, 9}",
    ),
    "a-flag-that-counts": Planted(
        "bool c, float[N] x, float[N] z", "float[N] y", "y = Where(c, x, z)",
        "n = Not(c) y = Where(n, z, x)", "y = Identity(x)",
    ),
    "a-flag-that-counts-the-other-way": Planted(
        "bool c, float[N] x, float[N] z", "float[N] y", "y = Where(c, x, z)",
        "n = Not(c) y = Where(n, z, x)", "y = Identity(z)",
    ),
    "a-word": Planted(
        "string[N] s", "bool[N] y", "y = Equal(s, c)", "y = Equal(c, s)", "y = Equal(s, d)",
        'string c = {"cat"}, string d = {"dog"}',
    ),
}  # fmt: skip

FLOATS = {
    "more-for-at-least": Planted(
        "float[N] x", "bool[N] y", "y = GreaterOrEqual(x, c)", "y = LessOrEqual(c, x)", "y = Greater(x, c)",
        "float c = {0.3}",
    ),
    "a-threshold-in-half-precision": Planted(
        "float16[N] x", "bool[N] y", "c = Cast<to = 10>(f) y = Greater(x, c)",
        "c = Cast<to = 10>(f) y = Less(c, x)",
        "c = Cast<to = 10>(f) y = GreaterOrEqual(x, c)", "float f = {0.25}",
    ),
    "a-scalar-threshold": Planted(
        "float t, float[N] x", "float[N] y", "e = Greater(t, c) n = Neg(x) y = Where(e, x, n)",
        "e = Less(c, t) n = Neg(x) y = Where(e, x, n)",
        "e = GreaterOrEqual(t, c) n = Neg(x) y = Where(e, x, n)",
        "float c = {0.75}",
    ),
    "a-threshold-far-away": Planted(
        "float[N] x", "bool[N] y", "y = Less(x, c)", "y = Greater(c, x)", "y = LessOrEqual(x, c)",
        "float c = {-8.25}",
    ),
    "one-number": Planted(
        "float[N] x", "float[N] y", "e = Equal(x, c) y = Where(e, z, x)",
        "e = Equal(c, x) y = Where(e, z, x)",
        "y = Identity(x)", "float c = {1.5}, float z = {0}",
    ),
    "two-values-alike": Planted(
        "float[N] x, float[N] w", "bool[N] y", "y = Greater(x, w)", "y = Less(w, x)",
        "y = GreaterOrEqual(x, w)",
    ),
    "a-limit-beyond-all": Planted(
        "float[N] x", "float[N] y", "y = Clip(x, a, b)", "m = Max(x, a) y = Min(m, b)", "y = Max(x, a)",
        "float a = {-1e30}, float b = {1e30}",
    ),
    "a-limit-of-six": Planted(
        "float[N] x", "float[N] y", "y = Clip(x, a, b)", "i = Identity(x) y = Clip(i, a, b)",
        "y = Clip(x, a, c)",
        "float a = {0}, float b = {6}, float c = {6.25}",
    ),
    "ties-of-rounding": Planted(
        "float[N] x", "float[N] y", "y = Round(x)", "n = Neg(x) r = Round(n) y = Neg(r)",
        "s = Add(x, h) y = Floor(s)", "float h = {0.5}", ALIKE,
    ),
    "a-tie-of-quantizing": Planted(
        "float[N] x", "int8[N] y", "y = QuantizeLinear(x, s, z)",
        "n = Identity(x) y = QuantizeLinear(n, s, z)",
        "d = Div(x, s) e = Add(d, h) r = Floor(e) y = QuantizeLinear(r, one, z)",
        "float s = {0.25}, int8 z = {0}, float h = {0.5}, float one = {1}",
    ),
    "saturation-at-minus-127": Planted(
        "float[N] x", "int8[N] y", "y = QuantizeLinear(x, s, z)",
        "n = Identity(x) y = QuantizeLinear(n, s, z)",
        "d = QuantizeLinear(x, s, z) y = Max(d, least)",
        "float s = {0.25}, int8 z = {0}, int8 least = {-127}",
    ),
    "the-sign-of-zero": Planted(
        "float[N] x", "float[N] y", "y = Neg(x)", "y = Mul(x, m)", "y = Sub(z, x)",
        "float z = {0}, float m = {-1}",
    ),
    "the-first-of-equals": Planted(
        "float[N,5] x", "int64[N] y", "y = ArgMax<axis = 1, keepdims = 0>(x)",
        "n = Neg(x) y = ArgMin<axis = 1, keepdims = 0>(n)",
        "y = ArgMax<axis = 1, keepdims = 0, select_last_index = 1>(x)",
    ),
    "the-order-of-equals": Planted(
        "float[N,6] x", "int64[N,6] y", "v, y = TopK<axis = 1>(x, k)",
        "n = Identity(x) v, y = TopK<axis = 1>(n, k)",
        "r = Slice(x, start, end, axis, step) v, i = TopK<axis = 1>(r, k) y = Sub(five, i)",
        "int64[1] k = {6}, int64[1] start = {-1}, int64[1] end = {-100}, int64[1] axis = {1},"
        " int64[1] step = {-1}, int64 five = {5}",
    ),
    "only-zeros": Planted(
        "float[N] x", "float[N] y", "e = Equal(x, z) y = Where(e, c, x)",
        "e = Equal(z, x) y = Where(e, c, x)",
        "e = Equal(x, z) s = Sign(x) y = Add(x, z)", "float z = {0}, float c = {1}", ALIKE,
    ),
    "a-row-that-sees-nothing": Planted(
        "float[N,4] x, bool[N,4] m", "float[N,4] y", "w = Where(m, x, low) y = Softmax(w)",
        "n = Not(m) w = Where(n, low, x) y = Softmax(w)",
        "w = Where(m, x, low) s = Softmax(w) f = Cast<to = 1>(m) y = Mul(s, f)", "float low = {-1e9}", ALIKE,
    ),
    "an-epsilon-of-1e-12": Planted(
        "float[N,8] x", "float[N,8] y", "y = LayerNormalization<epsilon = 1e-12>(x, w)",
        "m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) e = Add(v, eps)"
        " s = Sqrt(e) y = Div(d, s)",
        "y = LayerNormalization<epsilon = 1e-13>(x, w)",
        "float[8] w = {1, 1, 1, 1, 1, 1, 1, 1}, int64[1] last = {-1}, float eps = {1e-12}", ALIKE,
    ),
    "an-epsilon-of-1e-5": Planted(
        "float[N,8] x", "float[N,8] y", "y = RMSNormalization<epsilon = 1e-5>(x, w)",
        "q = Mul(x, x) v = ReduceMean(q, last) e = Add(v, eps) s = Sqrt(e) y = Div(x, s)",
        "y = RMSNormalization<epsilon = 1.01e-5>(x, w)",
        "float[8] w = {1, 1, 1, 1, 1, 1, 1, 1}, int64[1] last = {-1}, float eps = {1e-5}", ALIKE,
    ),
    "an-epsilon-added-for-a-limit": Planted(
        "float[N,4] x", "float[N,4] y", "n = ReduceL2(x, last) c = Max(n, eps) y = Div(x, c)",
        "n = ReduceL2(x, last) c = Max(eps, n) y = Div(x, c)",
        "n = ReduceL2(x, last) c = Add(n, eps) y = Div(x, c)",
        "int64[1] last = {-1}, float eps = {1e-12}", ALIKE,
    ),
    "only-far-below-zero": Planted(
        "float[N] x", "float[N] y", "y = LeakyRelu<alpha = 0.25>(x)",
        "m = Mul(x, q) p = Greater(x, z) y = Where(p, x, m)",
        "m = Mul(x, q) p = Greater(x, z) e = Where(p, x, m) y = Max(e, low)",
        "float q = {0.25}, float z = {0}, float low = {-64}", ALIKE,
    ),
}  # fmt: skip

NAN = {
    "a-maximum-without-nan": Planted(
        "float[N] x", "float[N] y", "y = Max(x, c)", "y = Max(c, x)", "g = Greater(x, c) y = Where(g, x, c)",
        "float c = {0.25}", ALIKE,
    ),
    "a-minimum-of-two-without-nan": Planted(
        "float[N] x, float[N] w", "float[N] y", "y = Min(x, w)", "y = Min(w, x)",
        "g = Less(x, w) y = Where(g, x, w)", "", ALIKE,
    ),
    "a-limit-without-nan": Planted(
        "float[N] x", "float[N] y", "m = Max(x, a) y = Min(m, b)", "m = Min(x, b) y = Max(m, a)",
        "l = Less(x, b) m = Where(l, x, b) g = Greater(m, a) y = Where(g, m, a)",
        "float a = {-1}, float b = {1}",
        ALIKE,
    ),
    "no-negatives-without-nan": Planted(
        "float[N,3] x", "float[N,3] y", "y = Relu(x)", "y = Max(x, zero)",
        "g = Greater(x, zero) y = Where(g, x, zero)",
        "float zero = {0}", ALIKE,
    ),
    "a-product-beside-it": Planted(
        "float[N,4] x", "float[N,4] y", "m = MatMul(x, w) y = Max(m, c)", "m = MatMul(x, w) y = Max(c, m)",
        "m = MatMul(x, w) g = Greater(m, c) y = Where(g, m, c)",
        "float[4,4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}, float c = {0.25}", ALIKE,
    ),
    "not-a-number-made-zero": Planted(
        "float[N] x", "float[N] y", "n = IsNaN(x) y = Where(n, z, x)",
        "n = IsNaN(x) i = Identity(x) y = Where(n, z, i)",
        "y = Identity(x)", "float z = {0}",
    ),
    "minus-infinity-too": Planted(
        "float[N] x", "bool[N] y", "y = IsInf(x)", "a = Abs(x) y = IsInf(a)",
        "y = IsInf<detect_negative = 0>(x)",
    ),
}  # fmt: skip

MASKED = {
    "transposed-before-a-mask": Planted(
        "float[B,S,S] s, bool[B,1,S] m", "float[B,S,S] y", "y = Where(m, s, low)",
        "n = Not(m) y = Where(n, low, s)", "t = Transpose<perm = [0, 2, 1]>(s) y = Where(m, t, low)",
        "float low = {-3.4028234663852886e38}", ALIKE,
    ),
    "transposed-product-before-a-mask": Planted(
        "float[S,4] q, float[S,4] k, bool[S] m", "float[S,S] y",
        "t = Transpose<perm = [1, 0]>(k) s = MatMul(q, t) y = Where(m, s, low)",
        "t = Transpose<perm = [1, 0]>(k) s = MatMul(q, t) n = Not(m) y = Where(n, low, s)",
        "t = Transpose<perm = [1, 0]>(q) s = MatMul(k, t) y = Where(m, s, low)",
        "float low = {-3.4028234663852886e38}", ALIKE,
    ),
    "a-mask-that-is-added": Planted(
        "float[S,S] s, bool[S] m", "float[S,S] y", "b = Where(m, z, low) y = Add(s, b)",
        "b = Where(m, z, low) y = Add(b, s)", "b = Where(m, z, low) h = Mul(s, half) y = Add(h, b)",
        "float z = {0}, float low = {-1e9}, float half = {0.999}", ALIKE,
    ),
    "a-mask-of-a-few-thousands": Planted(
        "float[S,S] s, float[S] m", "float[S,S] y", "n = Sub(one, m) b = Mul(n, low) y = Add(s, b)",
        "n = Sub(one, m) b = Mul(low, n) y = Add(b, s)",
        "n = Sub(one, m) b = Mul(n, low) h = Mul(s, half) y = Add(h, b)",
        "float one = {1}, float low = {-10000}, float half = {0.999}", ALIKE,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def verifier() -> Iterator[EditVerifier]:
    with EditVerifier() as made:
        yield made


@pytest.mark.parametrize("planted", parameters(INTEGERS | FLOATS | NAN | MASKED))
def test_particular_values(verifier: EditVerifier, planted: Planted) -> None:
    holds(verifier, planted)
