"""Statements that compute with floats: element by element, over an axis, products, attention."""

from __future__ import annotations

from tests.corpus._program import WIDTH, F, Value, _Builder, wide

_UNARY = (
    *("Abs", "Atan", "Ceil", "Celu", "Cos", "Dropout", "Elu", "Erf", "Floor", "HardSigmoid", "Identity"),
    *("LeakyRelu", "Mish", "Neg", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign"),
    *("Tanh",),
)
_BINARY = ("Add", "Sub", "Mul", "Max", "Min", "Mean", "Sum")


def unary(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    return b.keep(b.op(b.choose(_UNARY), [v]), F, v.dims)


def positive(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    safe = b.op("Add", [b.op("Abs", [v]), b.weight(1)])
    return b.keep(b.op(b.choose(("Sqrt", "Log", "Reciprocal")), [safe]), F, v.dims)


def power(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    return b.keep(b.op("Pow", [b.op("Tanh", [v]), b.weight(b.choose((1, 2, 3)))]), F, v.dims)


def clip(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    return b.keep(b.op("Clip", [v, b.choose(("", b.weight(-0.5))), b.weight(0.5)]), F, v.dims)


def binary(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    w = b.like(v)
    assert w is not None
    return b.keep(b.op(b.choose(_BINARY), [v, w]), F, v.dims)


def divided(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    w = b.op("Add", [b.op("Exp", [b.op("Tanh", [b.like(v) or v])]), b.weight(1)])
    return b.keep(b.op("Div", [v, w]), F, v.dims)


def by_constant(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    constant = b.weight(b.choose((0.0, 1.0, -0.5, 2.0)))
    if wide(v) and b.chance(0.4):
        constant = b.normal(WIDTH)
    pair = [v, constant] if b.chance(0.7) else [constant, v]
    return b.keep(b.op(b.choose(("Add", "Sub", "Mul")), pair), F, v.dims)


def spread(b: _Builder) -> Value | None:
    """Broadcast a reduced value over one that it came from."""
    v = b.pick(F, lambda v: len(v.dims) == 3)
    if v is None:
        return None
    axis = int(b.rng.integers(3))
    kind = b.choose(("ReduceMean", "ReduceSum", "ReduceL2"))
    if v.dims[axis] == WIDTH:
        kind = b.choose(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"))
    low = b.op(kind, [v, b.ints(axis)], keepdims=1)
    return b.keep(b.op(b.choose(("Sub", "Add")), [v, low]), F, v.dims)


def reduced(b: _Builder) -> Value | None:
    v = b.pick(F, wide)
    assert v is not None
    keep = int(b.chance(0.5))
    name = b.op(b.choose(("ReduceSum", "ReduceMean", "ReduceMax")), [v, b.ints(2)], keepdims=keep)
    return b.keep(name, F, (*v.dims[:2], *([1] if keep else [])))


def softmax(b: _Builder) -> Value | None:
    v = b.pick(F, lambda v: len(v.dims) > 1)
    assert v is not None
    return b.keep(
        b.op(b.choose(("Softmax", "LogSoftmax")), [v], axis=b.choose((-1, len(v.dims) - 1))), F, v.dims
    )


def layer_norm(b: _Builder) -> Value | None:
    v = b.pick(F, wide)
    assert v is not None
    return b.keep(b.op("LayerNormalization", [v, b.normal(WIDTH), b.normal(WIDTH)], axis=-1), F, v.dims)


def rms_norm(b: _Builder) -> Value | None:
    v = b.pick(F, wide)
    assert v is not None
    square = b.op("Mul", [v, v]) if b.chance(0.5) else b.op("Pow", [v, b.weight(2)])
    mean = b.op("ReduceMean", [square, b.ints(-1)], keepdims=1)
    root = b.op("Sqrt", [b.op("Add", [mean, b.weight(1e-5)])])
    scaled = b.op("Div", [v, root]) if b.chance(0.5) else b.op("Mul", [v, b.op("Reciprocal", [root])])
    return b.keep(b.op("Mul", [b.normal(WIDTH), scaled]), F, v.dims)


def gelu(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    erf = b.op("Add", [b.op("Erf", [b.op("Div", [v, b.weight(2**0.5)])]), b.weight(1)])
    return b.keep(b.op("Mul", [b.op("Mul", [v, erf]), b.weight(0.5)]), F, v.dims)


def silu(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    return b.keep(b.op("Mul", [v, b.op("Sigmoid", [v])]), F, v.dims)


def product(b: _Builder) -> Value | None:
    v = b.pick(F, wide)
    assert v is not None
    y = b.op("MatMul", [v, b.normal(WIDTH, WIDTH)])
    return b.keep(b.op("Add", [y, b.normal(WIDTH)]) if b.chance(0.5) else y, F, v.dims)


def gemm(b: _Builder) -> Value | None:
    v = b.pick(F, wide)
    assert v is not None
    flat = b.op("Reshape", [v, b.ints(-1, WIDTH)])
    turned = int(b.chance(0.5))
    y = b.op("Gemm", [flat, b.normal(WIDTH, WIDTH), b.normal(WIDTH)], transB=turned, alpha=0.5)
    back = b.op("Reshape", [y, b.op("Shape", [v])])
    return b.keep(back, F, v.dims)


def attention(b: _Builder) -> Value | None:
    v = b.pick(F, lambda v: v.dims == ("B", "S", WIDTH))
    assert v is not None
    batch, length = b.op("Shape", [v], start=0, end=1), b.op("Shape", [v], start=1, end=2)
    heads = b.op("Concat", [batch, length, b.ints(2), b.ints(4)], axis=0)
    if b.chance(0.5):
        heads = b.ints(0, 0, 2, 4)

    def apart(perm: list[int]) -> str:
        return str(
            b.op(
                "Transpose",
                [b.op("Reshape", [b.op("MatMul", [v, b.normal(WIDTH, WIDTH)]), heads])],
                perm=perm,
            )
        )

    scores = b.op("MatMul", [apart([0, 2, 1, 3]), apart([0, 2, 3, 1])])
    scores = b.op(b.choose(("Mul", "Div")), [scores, b.weight(b.choose((0.5, 2.0)))])
    if b.chance(0.7):
        wide = b.op("Unsqueeze", ["mask", b.ints(1, 2)])
        lowest = b.weight(b.choose((-3.4028234663852886e38, -1e9, -1e4)))
        if b.chance(0.5):
            scores = b.op("Add", [scores, b.op("Where", [wide, b.weight(0), lowest])])
        else:
            scores = b.op("Where", [wide, scores, lowest])
    mixed = b.op("MatMul", [b.op("Softmax", [scores], axis=-1), apart([0, 2, 1, 3])])
    return b.keep(
        b.op("Reshape", [b.op("Transpose", [mixed], perm=[0, 2, 1, 3]), b.op("Shape", [v])]), F, v.dims
    )
