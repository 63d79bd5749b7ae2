"""Statements with graphs of their own: branches, loops, functions."""

from __future__ import annotations

from onnx import helper

from tests.corpus._program import WIDTH, B, F, I, Value, _Builder


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
