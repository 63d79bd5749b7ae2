"""A stream gives what the whole graph computes, whatever it holds of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.calibrate import Stream, _piece
from graphopt.errors import BadInput
from graphopt.ir import InMemory, LazyTensor, evaluate, extract, infer_types, lazy, parse

TWO_LAYERS = """
<ir_version: 10, opset_import: ["" : 23]>
net (int64[B,S] ids) => (float[B,S,8] y)
<float[50,8] table = ["location": "absent"], float[8,8] v = ["location": "absent"],
 float[8,8] w = ["location": "absent"]>
{
    e = Gather(table, ids)
    a = MatMul(e, v)
    b = Tanh(a)
    h = Add(e, b)
    c = MatMul(h, w)
    d = Tanh(c)
    y = Add(h, d)
}
"""


def layers(text: str = TWO_LAYERS) -> ir.Model:
    model = parse(text)
    rng = np.random.default_rng(0)
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        array = rng.standard_normal(list(lazy(value.const_value).shape)).astype(np.float32)
        value.const_value = LazyTensor(InMemory(array))
    infer_types(model)
    return model


def calls(count: int = 3) -> list[dict[str, Any]]:
    return [{"ids": np.random.default_rng(i).integers(0, 50, (1, 4 + i))} for i in range(count)]


def named(graph: ir.Graph, name: str) -> ir.Value:
    return next(v for node in graph for v in node.outputs if v.name == name)


def whole(model: ir.Model, name: str, feeds: Any) -> Any:
    return evaluate(extract(model.graph, [named(model.graph, name)]), feeds)[0]


def replaced(graph: ir.Graph, old: str, op: str) -> None:
    """Another node computes the value `old` from the same."""
    node = named(graph, old).producer()
    assert node is not None
    new = ir.Node("", op, node.inputs, name=f"{old}/new")
    new.outputs[0].name = f"{old}/new"
    graph.insert_before(node, [new])
    ir.convenience.replace_all_uses_with(node.outputs[0], new.outputs[0])
    graph.remove(node, safe=True)


def assert_whole(model: ir.Model, stream: Stream, *names: str) -> None:
    got = list(stream.values([named(model.graph, name) for name in names]))
    for feeds, answer in zip(calls(), got, strict=True):
        for name, array in zip(names, answer, strict=True):
            np.testing.assert_allclose(array, whole(model, name, feeds), rtol=1e-6, atol=1e-6)


def test_a_walk_through_the_graph_gives_what_the_graph_computes() -> None:
    model = layers()
    stream = Stream(model.graph, calls())
    assert len(stream) == 3
    for names in (["e"], ["b", "a"], ["h"], ["d", "y"]):
        assert_whole(model, stream, *names)
    assert [v.name for v in stream._front.values()] == []


def test_what_an_edit_changes_counts_from_then_on() -> None:
    model = layers()
    stream = Stream(model.graph, calls())
    assert_whole(model, stream, "a")
    replaced(model.graph, "b", "Sigmoid")
    assert_whole(model, stream, "c")


def test_an_edit_behind_the_front_counts_too() -> None:
    model = layers()
    stream = Stream(model.graph, calls())
    assert_whole(model, stream, "c", "h")
    replaced(model.graph, "b", "Sigmoid")
    assert_whole(model, stream, "d")
    assert_whole(model, stream, "a")


def test_a_question_that_is_left_half_way_leaves_nothing() -> None:
    model = layers()
    stream = Stream(model.graph, calls())
    next(stream.values([named(model.graph, "a")]))
    assert_whole(model, stream, "h", "a")
    assert_whole(model, stream, "y")


def test_it_is_bit_equal_on_any_number_of_threads() -> None:
    model = layers()
    found = []
    for threads in (1, 2, 5):
        stream = Stream(model.graph, calls(7), threads=threads)
        for name in ("h", "y"):
            found.append(b"".join(a.tobytes() for (a,) in stream.values([named(model.graph, name)])))
    assert found[0::2] == [found[0]] * 3
    assert found[1::2] == [found[1]] * 3


def test_the_front_is_spilled(tmp_path: Path) -> None:
    model = layers()
    stream = Stream(model.graph, calls(), folder=tmp_path, memory=200)
    assert_whole(model, stream, "a")
    assert len(list(tmp_path.rglob("*.npy"))) > 2
    assert_whole(model, stream, "d")
    assert_whole(model, stream, "y")
    assert list(tmp_path.rglob("*.npy")) == []
    del stream
    assert list(tmp_path.iterdir()) == []


class Counted(InMemory):
    """An array that says how many rows were read of it at most."""

    op = "tests.counted"
    most = 0

    def read(self, region: Any = None) -> Any:
        rows = self.shape[0] if region is None else region[0].stop - region[0].start
        Counted.most = max(Counted.most, rows)
        return super().read(region)


def test_of_a_large_table_only_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_piece, "_LARGE", 100)
    model = layers()
    table = model.graph.initializers["table"]
    assert table.const_value is not None
    table.const_value = LazyTensor(Counted(table.const_value.numpy()))
    given = [*calls(), {"ids": np.array([[-1, 0]])}]
    stream = Stream(model.graph, given)
    got = [array for (array,) in stream.values([named(model.graph, "a")])]

    assert Counted.most == 1
    for feeds, array in zip(given, got, strict=True):
        np.testing.assert_allclose(array, whole(model, "a", feeds), rtol=1e-6, atol=1e-6)
    with pytest.raises(BadInput, match=r"table has 50 rows, and what it is calibrated on asks for row 50"):
        list(Stream(model.graph, [{"ids": np.array([[50]])}]).values([named(model.graph, "e")]))


def test_large_weights_of_quantized_products_are_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse(
        """
        <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
        net (float[N,256] x) => (float[N,64] y)
        <uint8[64,2,64] packed = ["location": "absent"], float[64,2] scales = ["location": "absent"]>
        {
            d = MatMulNBits <K = 256, N = 64, bits = 4, block_size = 128> (x, packed, scales)
            y = Tanh(d)
        }
    """.replace("MatMulNBits", "com.microsoft.MatMulNBits")
    )
    rng = np.random.default_rng(0)
    for name, array in {
        "packed": rng.integers(0, 256, (64, 2, 64), np.uint8),
        "scales": rng.standard_normal((64, 2)).astype(np.float32),
    }.items():
        model.graph.initializers[name].const_value = ir.tensor(array)
    feeds = {"x": rng.standard_normal((3, 256)).astype(np.float32)}
    wanted = whole(model, "d", feeds)
    monkeypatch.setattr(_piece, "_LARGE", 100)
    ((got,),) = Stream(model.graph, [feeds]).values([named(model.graph, "d")])
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)


def test_values_whose_type_nobody_declared_can_be_fed() -> None:
    model = layers()
    stream = Stream(model.graph, calls())
    assert_whole(model, stream, "b")
    for node in model.graph:
        for value in node.outputs:
            value.type = None
    y = list(stream.values([named(model.graph, "d")]))
    assert len(y) == 3


DECODER = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[1,S,4] x, float[1,P,4] past) => (float[1,T,4] present, float[1,S,4] y)
<int64[1] axes = {1}, float[4,4] w = ["location": "absent"]>
{
    k = MatMul(x, w)
    present = Concat <axis = 1> (past, k)
    sum = ReduceSum <keepdims = 1> (present, axes)
    y = Add(k, sum)
}
"""


@pytest.mark.parametrize("questions", [["y"], ["k", "y"], ["present", "y"]])
def test_a_call_without_states_goes_on_from_the_one_before(questions: list[str]) -> None:
    model = parse(DECODER)
    model.graph.initializers["w"].const_value = ir.tensor(np.eye(4, dtype=np.float32))
    infer_types(model)
    empty = np.zeros((1, 0, 4), np.float32)
    given: list[dict[str, Any]] = []
    for start in (1, 10):
        given.append({"x": np.full((1, 3, 4), start, np.float32), "past": empty})
        given += [{"x": np.full((1, 1, 4), start + i, np.float32)} for i in (1, 2)]
    stream = Stream(model.graph, given, states={"past": "present"}, threads=2)
    for question in questions:
        got = [array for (array,) in stream.values([named(model.graph, question)])]
    sums = [array[0, -1, 0] for array in got]
    assert sums == [4, 7, 11, 40, 52, 65]


def test_what_cannot_be_asked_for_has_a_reason() -> None:
    model = parse("""
        <ir_version: 10, opset_import: ["" : 23]>
        net (bool c, float[N] x) => (float[N] y) <float[1] w = {1.0}> {
            y = If (c) <
                then_branch = a () => (float[N] p) { p = Neg(x) },
                else_branch = b () => (float[N] q) { q = Mul(x, w) }
            >
        }
    """)
    stream = Stream(model.graph, [{"c": np.array(True), "x": np.ones(2, np.float32)}])
    inner = next(iter(model.graph.subgraphs())).outputs[0]
    assert "in a branch or a loop" in (stream.refuses(inner) or "")
    assert stream.refuses(model.graph.initializers["w"]) == "w is a weight"
    with pytest.raises(ValueError, match="in a branch"):
        next(stream.values([inner]))
    ((x, y),) = stream.values([model.graph.inputs[1], named(model.graph, "y")])
    assert (x == -y).all()


def test_what_is_not_finite_is_named() -> None:
    model = layers()
    model.graph.initializers["v"].const_value = ir.tensor(np.full((8, 8), np.inf, np.float32))
    stream = Stream(model.graph, calls())
    list(stream.values([named(model.graph, "e")]))
    with pytest.raises(BadInput, match="a has NaN or infinite entries in call 1 of"):
        list(stream.values([named(model.graph, "a")]))


def test_a_call_that_the_model_cannot_take_is_bad_input() -> None:
    model = layers()
    with pytest.raises(BadInput, match="does not run on what it is calibrated on"):
        list(
            Stream(model.graph, [{"ids": np.zeros((1, 2, 3, 4), np.float64)}]).values(
                [named(model.graph, "e")]
            )
        )
