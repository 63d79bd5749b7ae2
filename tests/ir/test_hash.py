"""graph_hash: equal where nothing that matters differs, and different for every kind of change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import (
    InMemory,
    LazyTensor,
    Transposed,
    Unbound,
    graph_hash,
    load_model,
    node_signature,
    parse,
    save_model,
)

SOURCE = """
<ir_version: 10, opset_import: ["" : 23, "own" : 1]>
g (float[B,4] x, bool c, float[1] d) => (float[B,4] y, float[B,4] z)
<float[4] w = {1.0, 2.0, 3.0, 4.0}, float[1] d = {5.0}>
{
  a = Mul(x, w)
  k = Constant<value = float[2] {1.0, 2.0}>()
  b = If(c) <then_branch = t () => (float[B,4] p) { p = LeakyRelu<alpha = 0.5>(a) },
             else_branch = e () => (float[B,4] q) { q = Neg(a) }>
  y = own.f<scale = 2.0>(b)
  z = Exp(a)
}
<domain: "own", opset_import: ["" : 23]>
f <scale: float = 1.0> (u) => (v) { s = Constant<value_float: float = @scale>() v = Mul(u, s) }
"""


def changed(old: str, new: str) -> ir.Model:
    assert old in SOURCE
    return parse(SOURCE.replace(old, new))


def test_the_same_source_hashes_the_same():
    assert graph_hash(parse(SOURCE)) == graph_hash(parse(SOURCE))
    assert len(graph_hash(parse(SOURCE))) == 64


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a = Mul(x, w)", "[renamed] a = Mul(x, w)"),
        ("  k = Constant<value = float[2] {1.0, 2.0}>()\n", ""),
        ("  z = Exp(a)\n", ""),
    ],
)
def test_what_is_moved_or_named_otherwise_is_the_same(old, new):
    moved = SOURCE.replace(old, new)
    if new == "":
        moved = moved.replace("  y = own.f", f"{old}  y = own.f")
    assert moved != SOURCE
    assert graph_hash(parse(moved)) == graph_hash(parse(SOURCE))


def test_names_of_inner_values_and_weights_do_not_count():
    model = parse(SOURCE)
    model.graph[0].outputs[0].name = "inner"
    model.graph[0].name = "node"
    model.graph[0].metadata_props["note"] = "x"
    weight = model.graph.initializers.pop("w")
    weight.name = "v"
    model.graph.register_initializer(weight)
    assert graph_hash(model) == graph_hash(parse(SOURCE))


CHANGES = [
    ("float[B,4] x", "float[N,4] x"),
    ("float[B,4] x", "float[B,5] x"),
    ("float[B,4] x", "float16[B,4] x"),
    ("(float[B,4] x, bool c, float[1] d)", "(bool c, float[B,4] x, float[1] d)"),
    ("=> (float[B,4] y, float[B,4] z)", "=> (float[B,4] z, float[B,4] y)"),
    ("=> (float[B,4] y, float[B,4] z)", "=> (float[B,4] y)"),
    ('"" : 23, "own"', '"" : 22, "own"'),
    ("{1.0, 2.0, 3.0, 4.0}", "{1.0, 2.0, 3.0, 5.0}"),
    ("float[4] w", "double[4] w"),
    ("d = {5.0}", "d = {6.0}"),
    (", float[1] d)", ")"),
    ("Mul(x, w)", "Mul(w, x)"),
    ("Mul(x, w)", "Add(x, w)"),
    ("float[2] {1.0, 2.0}", "float[2] {1.0, 3.0}"),
    ("k = Constant", "k, unused = Constant"),
    ("alpha = 0.5", "alpha = 0.25"),
    ("Neg(a)", "Abs(a)"),
    ("Neg(a)", "Neg(x)"),
    ("Exp(a)", "Exp(b)"),
    ("own.f<scale = 2.0>", "own.f"),
    ("v = Mul(u, s)", "v = Mul(s, u)"),
    ("scale: float = 1.0", "scale: float = 3.0"),
    ("z = Exp(a)", "z = Exp(a) dead = Neg(a)"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES, ids=[new for _, new in CHANGES])
def test_every_change_shows(old, new):
    assert graph_hash(changed(old, new)) != graph_hash(parse(SOURCE))


def test_an_unused_weight_counts():
    model = parse(SOURCE)
    spare = ir.Value(name="spare", const_value=ir.tensor([1.0], name="spare"))
    model.graph.register_initializer(spare)
    assert graph_hash(model) != graph_hash(parse(SOURCE))


@pytest.mark.parametrize(
    "other",
    [
        lambda array: LazyTensor(Unbound("w", ir.DataType.FLOAT, (2, 2))),
        lambda array: LazyTensor(Transposed(InMemory(array), (1, 0))),
        lambda array: ir.tensor(array + 1),
    ],
)
def test_weights_count_by_what_they_are(other: Callable[[np.ndarray], ir.TensorProtocol]):
    array = np.arange(4, dtype=np.float32).reshape(2, 2)
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]>
        g () => (float[2,2] y) <float[2,2] w = {0, 1, 2, 3}> { y = Neg(w) }"""
    )
    held = graph_hash(model)
    model.graph.initializers["w"].const_value = LazyTensor(InMemory(array))
    assert graph_hash(model) == held
    model.graph.initializers["w"].const_value = other(array)
    assert graph_hash(model) != held


def test_hashing_reads_no_file(saved):
    loaded = load_model(saved)
    before = graph_hash(loaded)
    saved.with_name("model.onnx.data").unlink()
    assert graph_hash(loaded) == before


def test_strings_count():
    source = """<ir_version: 10, opset_import: ["" : 23]>
        g () => (string[1] y) <string[1] w = {"a"}> { y = Identity(w) }"""
    assert graph_hash(parse(source)) != graph_hash(parse(source.replace('"a"', '"b"')))


def test_the_graph_alone_can_be_hashed():
    model = parse(SOURCE)
    assert graph_hash(model.graph) == graph_hash(parse(SOURCE).graph)
    assert graph_hash(model.graph) != graph_hash(changed("Exp(a)", "Exp(b)").graph)


def test_loading_twice_hashes_the_same(saved, tmp_path):
    assert graph_hash(load_model(saved)) == graph_hash(load_model(saved))
    save_model(load_model(saved), tmp_path / "copy.onnx")
    assert graph_hash(load_model(tmp_path / "copy.onnx")) != graph_hash(load_model(saved))


def test_an_attribute_that_is_what_it_is_by_default_is_as_good_as_none():
    said, silent, other = (
        parse(
            f"""<ir_version: 10, opset_import: ["" : 23]> g (float[4,4] x) => (float[4,4] y)
            {{ y = Gemm{attributes}(x, x) }}"""
        ).graph[0]
        for attributes in ("<alpha = 1.0, transA = 0>", "", "<alpha = 0.5>")
    )
    assert node_signature(said) == node_signature(silent) != node_signature(other)
