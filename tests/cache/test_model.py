"""Models and plain values come back from an entry as they went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.cache._expressions import decoded_expr, encoded_expr
from graphopt.cache._model import GRAPH, ModelWriter, read_model
from graphopt.cache._plain import CannotStore, decoded, encoded
from graphopt.ir import (
    Affine,
    Cast,
    Concatenated,
    Expr,
    InMemory,
    LazyTensor,
    Reshaped,
    Scratch,
    Sliced,
    Transposed,
    Unbound,
    graph_hash,
    parse,
    to_proto,
)

TEXT = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[n, 4] x, bool c) => (float[n, m] y)
<float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
 float[4, 4] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6}>
{
  a = MatMul(x, w)
  b = MatMul(a, v)
  y = If (c) <
    then_branch = inner () => (float[n, k] p) <float[1] t = {2}> { p = Mul(b, t) },
    else_branch = other () => (float[n, k] q) { q = Neg(b) }
  >
}
"""


@pytest.mark.parametrize(
    "value",
    [
        {"a": (1, [2.5, None]), "b": {0: "x", (1, 2): True}, "!": "mark"},
        [float("inf"), -0.0, 1e-300, 2**70],
        {},
    ],
)
def test_plain_values_come_back(value: Any) -> None:
    assert repr(decoded(encoded(value))) == repr(value)


@pytest.mark.parametrize("value", [{1, 2}, object(), np.float32(1), ir.DataType.FLOAT, b"x"])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(CannotStore):
        encoded([value])


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    (tmp_path / "spill").mkdir()
    return tmp_path / "spill"


@pytest.fixture
def stored(spill: Path) -> Expr:
    rows = np.arange(16, dtype=np.float32).reshape(4, 4)
    return Scratch(spill).write([rows], ir.DataType.FLOAT, (4, 4))


def test_expressions_come_back(tmp_path: Path, spill: Path, stored: Expr) -> None:
    held = InMemory(np.arange(6, dtype=np.int8).reshape(2, 3))
    small = InMemory(np.arange(6, dtype=np.uint8) % 4, ir.DataType.UINT4)
    found = [
        Cast(Affine(Transposed(stored, (1, 0)), 0.5, 3.0), ir.DataType.BFLOAT16),
        Concatenated((Sliced(stored, 1, 1, 3), Reshaped(Sliced(stored, 0, 0, 2), (4, 2))), 0),
        Unbound("w", ir.DataType.FLOAT, (2,)),
        held,
        small,
    ]
    writer = ModelWriter(tmp_path, spill)
    with (tmp_path / "arrays.bin").open("wb") as writer._stream:
        forms = [encoded_expr(expr, writer) for expr in found]
    (path,) = writer.scratch
    back = [decoded_expr(form, lambda _: path, tmp_path / "arrays.bin") for form in forms]

    assert [expr.identity for expr in back] == [expr.identity for expr in found]


def test_a_model_comes_back_bit_for_bit(tmp_path: Path, spill: Path, stored: Expr) -> None:
    model = parse(TEXT)
    graph = model.graph
    tied = ir.Value(name="tied", shape=ir.Shape([4, 4]), type=ir.TensorType(ir.DataType.FLOAT))
    tied.const_value = graph.initializers["v"].const_value = LazyTensor(stored)
    graph.register_initializer(tied)
    constant = ir.Node(
        "", "Constant", [], [ir.AttrTensor("value", LazyTensor(Cast(stored, ir.DataType.FLOAT16)))]
    )
    constant.metadata_props["origin"] = "test"
    graph.insert_before(graph[0], constant)
    graph.append(ir.Node("", "Neg", [graph.inputs[0]]))
    graph.remove(graph[-1], safe=True)
    graph.append(ir.Node("", "Constant", [], [ir.AttrTensor("value", LazyTensor(stored))]))
    before = to_proto(model).SerializeToString(deterministic=True)

    folder = tmp_path / "entry"
    folder.mkdir()
    writer = ModelWriter(folder, spill)
    form = writer.write(model)
    assert to_proto(model).SerializeToString(deterministic=True) == before
    paths = {name: path for path, (name, _) in writer.scratch.items()}
    back = read_model(folder, (folder / GRAPH).read_bytes(), form, paths.__getitem__)

    assert to_proto(back).SerializeToString(deterministic=True) == before
    assert graph_hash(back) == graph_hash(model)
    assert back.graph.initializers["tied"].const_value is back.graph.initializers["v"].const_value
    for one in (model, back):
        one.graph.append(ir.Node("", "Neg", [one.graph.inputs[0]]))
    assert str(to_proto(back)) == str(to_proto(model))
    assert [output.name for output in back.graph[-1].outputs] == ["val_3"]


def test_what_was_not_said_of_a_weight_is_not_said_afterwards(tmp_path: Path, spill: Path) -> None:
    model = parse(TEXT)
    value = model.graph.initializers["w"]
    value.shape = value.type = None
    (tmp_path / "entry").mkdir()
    form = ModelWriter(tmp_path / "entry", spill).write(model)
    back = read_model(tmp_path / "entry", (tmp_path / "entry" / GRAPH).read_bytes(), form, Path)

    assert back.graph.initializers["w"].shape is None
    assert isinstance(to_proto(back), onnx.ModelProto)
