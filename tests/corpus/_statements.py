"""What a generated graph is made of: each adds nodes and a value, or nothing where no value fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx import TensorProto, helper

from tests.corpus._program import WIDTH, Value, _Builder

__all__ = ["STATEMENTS"]

F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL  # noqa: E741
Statement = Callable[[_Builder], Value | None]
_UNARY = (
    *("Abs", "Atan", "Ceil", "Celu", "Cos", "Dropout", "Elu", "Erf", "Floor", "HardSigmoid", "Identity"),
    *("LeakyRelu", "Mish", "Neg", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign"),
    *("Tanh",),
)
_BINARY = ("Add", "Sub", "Mul", "Max", "Min", "Mean", "Sum")


def _wide(value: Value) -> bool:
    """Whether it is [.., .., 8], as most are."""
    return len(value.dims) == 3 and value.dims[2] == WIDTH


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
    if _wide(v) and b.chance(0.4):
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
    v = b.pick(F, _wide)
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
    v = b.pick(F, _wide)
    assert v is not None
    return b.keep(b.op("LayerNormalization", [v, b.normal(WIDTH), b.normal(WIDTH)], axis=-1), F, v.dims)


def rms_norm(b: _Builder) -> Value | None:
    v = b.pick(F, _wide)
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
    v = b.pick(F, _wide)
    assert v is not None
    y = b.op("MatMul", [v, b.normal(WIDTH, WIDTH)])
    return b.keep(b.op("Add", [y, b.normal(WIDTH)]) if b.chance(0.5) else y, F, v.dims)


def gemm(b: _Builder) -> Value | None:
    v = b.pick(F, _wide)
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
    v = b.pick(F, _wide)
    assert v is not None
    if b.chance(0.5):
        return b.keep(b.op("ArgMax", [v], axis=2, keepdims=0), I, v.dims[:2])
    values, places = b.op("TopK", [v, b.ints(2)], outputs=2, axis=-1)
    b.keep(places, I, (*v.dims[:2], 2))
    return b.keep(values, F, (*v.dims[:2], 2))


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
    v = b.pick(F, _wide)
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
    v = b.pick(F, _wide)
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
    v = b.pick(F, _wide)
    assert v is not None
    wide = b.op("Pad", [v, b.ints(0, 0, 1, 0, 0, 1), b.weight(0.5)])
    return b.keep(b.op("Slice", [wide, b.ints(1), b.ints(-1), b.ints(2)]), F, v.dims)


def tiled(b: _Builder) -> Value | None:
    v = b.pick(F, _wide)
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


def branch(b: _Builder) -> Value | None:
    """If an input, or a size, says so, one thing and else another, both from values outside."""
    v = b.pick(F)
    assert v is not None
    w = b.like(v) or v
    condition = b.pick(B, lambda c: c.dims == ())
    assert condition is not None
    chosen = condition.name
    if b.chance(0.3):
        size = b.op("Gather", [b.op("Shape", ["ids"]), b.weight(1, "int64")], axis=0)
        chosen = b.op("Greater", [size, b.weight(2, "int64")])
    graphs = []
    for first, second in (("Neg", "Add"), (b.choose(("Identity", "Relu")), "Sub")):
        inner, out = b.name(), b.name()
        nodes = [helper.make_node(first, [v.name], [inner]), helper.make_node(second, [inner, w.name], [out])]
        graphs.append(helper.make_graph(nodes, b.name(), [], [helper.make_tensor_value_info(out, F, None)]))
    return b.keep(b.op("If", [chosen], then_branch=graphs[0], else_branch=graphs[1]), F, v.dims)


def loop(b: _Builder) -> Value | None:
    v = b.pick(F)
    assert v is not None
    w = b.like(v) or v
    i, c, state, again, inner, out = (b.name() for _ in range(6))
    nodes = [
        helper.make_node("Identity", [c], [again]),
        helper.make_node("Tanh", [w.name], [inner]),
        helper.make_node(b.choose(("Add", "Mul")), [state, inner], [out]),
    ]
    info = helper.make_tensor_value_info
    given = [info(i, I, []), info(c, B, []), info(state, F, None)]
    body = helper.make_graph(nodes, b.name(), given, [info(again, B, []), info(out, F, None)])
    times = "n" if b.chance(0.5) else b.weight(2, "int64")
    return b.keep(b.op("Loop", [times, "", v.name], body=body), F, v.dims)


def scan(b: _Builder) -> Value | None:
    v = b.pick(F, lambda v: v.dims == ("B", "S", WIDTH))
    assert v is not None
    state, row, new, out, twice = (b.name() for _ in range(5))
    nodes = [
        helper.make_node("Add", [state, row], [new]),
        helper.make_node("Mul", [new, row], [twice]),
        helper.make_node("Tanh", [twice], [out]),
    ]
    info = helper.make_tensor_value_info
    given = [info(state, F, ["B", WIDTH]), info(row, F, ["B", WIDTH])]
    body = helper.make_graph(nodes, b.name(), given, [info(new, F, ["B", WIDTH]), info(out, F, ["B", WIDTH])])
    start = b.op("ReduceSum", [b.op("Mul", [v, b.weight(0)]), b.ints(1)], keepdims=0)
    last, rows = b.op(
        "Scan", [start, v], outputs=2, body=body, num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1]
    )
    b.keep(last, F, ("B", WIDTH))
    return b.keep(rows, F, v.dims)


def called(b: _Builder) -> Value | None:
    """A function of the model's own, called twice perhaps."""
    v = b.pick(F)
    assert v is not None
    if not b.functions:
        nodes = [
            helper.make_node("Sigmoid", ["a"], ["s"]),
            helper.make_node("Mul", ["a", "s"], ["m"]),
            helper.make_node("Sub", ["m", "c"], ["y"]),
        ]
        opsets = [helper.make_opsetid("", b.opset)]
        b.functions.append(helper.make_function("local", "gated", ["a", "c"], ["y"], nodes, opsets))
    return b.keep(b.op("gated", [v, b.like(v)], domain="local"), F, v.dims)


def repeated(b: _Builder) -> Value | None:
    """The same node again, and what it gave before taken away."""
    v = b.pick(F)
    assert v is not None
    kind = b.choose(("Tanh", "Sigmoid", "Relu"))
    once, again = b.op(kind, [v]), b.op(kind, [v])
    return b.keep(b.op(b.choose(("Add", "Sub", "Mul")), [once, again]), F, v.dims)


def folded(b: _Builder) -> Value | None:
    """A constant that is computed, on a value."""
    v = b.pick(F, _wide)
    assert v is not None
    constant: Any = b.op(b.choose(("Add", "Mul", "Sub")), [b.normal(WIDTH), b.normal(WIDTH)])
    return b.keep(b.op("Mul", [v, b.op("Sigmoid", [constant])]), F, v.dims)


def noop(b: _Builder) -> Value | None:
    v = b.pick(F, _wide)
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


STATEMENTS: tuple[Statement, ...] = (
    *(
        unary,
        unary,
        binary,
        binary,
        positive,
        power,
        clip,
        divided,
        by_constant,
        by_constant,
        spread,
        reduced,
    ),
    *(
        softmax,
        layer_norm,
        rms_norm,
        gelu,
        silu,
        product,
        product,
        gemm,
        attention,
        attention,
        compared,
        logic,
    ),
    *(
        where,
        masked,
        whole,
        rounded,
        as_float,
        looked_up,
        summed,
        best,
        transposed,
        reshaped,
        reshaped,
        expanded,
    ),
    *(filled, positions, sliced, shortened, chosen, padded, tiled, triangle, branch, loop, scan, called),
    *(repeated, folded, noop, noop),
)
