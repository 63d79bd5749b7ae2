"""The graph before and after: on small graphs by hand, and on the embedded model's package."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.evaluate import step_cost
from graphopt.ir import load_model
from graphopt.pipeline import EditRecord, PassRecord, weight_bytes
from graphopt.report import GraphSide, GraphView, Report, SourceGraph, graph_side
from graphopt.report._graph_history import history
from graphopt.report._graph_layout import layout

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
Node = tuple[str, str, str, str]
"""Operator, name, inputs and outputs apart by spaces."""


def graph(
    path: Path,
    nodes: Sequence[Node],
    weights: dict[str, Any],
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
) -> Any:
    made = helper.make_graph(
        [helper.make_node(op, ins.split(), outs.split(), name=name) for op, name, ins, outs in nodes],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), path)
    return load_model(path)


def square() -> Any:
    return np.eye(4)


def groups(side: GraphSide) -> dict[str, list[str]]:
    return {group.id: [node.name for node in group.nodes_listed] for group in side.groups}


def record(step: str, *edits: tuple[str, str]) -> PassRecord:
    made = [
        EditRecord(n + 1, "", "", "applied", None, removed=tuple(a.split()), made=tuple(b.split()))
        for n, (a, b) in enumerate(edits)
    ]
    return PassRecord(step, "raise", "exact", {}, made)


def test_history_goes_back_to_the_source() -> None:
    made = history([record("a", ("x y", "p"), ("z", "q")), record("b", ("p q w", "r s"), ("q2", "q3"))])
    assert made.keys() == {"r", "s", "q3"}
    assert made["r"].edit == "b:1"
    assert made["r"].through == ("a:1", "a:2")
    assert made["r"].sources == made["s"].sources == ("x", "y", "z", "w")
    assert made["q3"].edits == ("b:2",)


def test_what_takes_the_place_of_its_own_name_stands_for_that_alone() -> None:
    made = history([record("upgrade", ("x y z", "x y2"))])
    assert made["x"].sources == ("x",)
    assert made["y2"].sources == ("x", "y", "z")


def test_what_was_taken_away_is_forgotten() -> None:
    assert history([record("a", ("x", "p")), record("dead-code", ("p", ""))]) == {}


@pytest.mark.parametrize(
    ("names", "edges", "places"),
    [
        ("a b c", "ab bc", {"a": (0, 0), "b": (0, 1), "c": (0, 2)}),
        ("a b c d", "ab ac bd cd", {"a": (0, 0), "b": (-0.5, 1), "c": (0.5, 1), "d": (0, 2)}),
        ("a b c", "ab bc ac", {"a": (0, 0), "b": (0, 1), "c": (0, 2)}),
        ("a b", "ab ba", {"a": (0, 0), "b": (0, 1)}),
        ("a b c d", "ad bc", {"a": (-0.5, 0), "b": (0.5, 0), "c": (0.5, 1), "d": (-0.5, 1)}),
    ],
    ids=["chain", "diamond", "past one", "back", "uncrossed"],
)
def test_layout(names: str, edges: str, places: dict[str, tuple[float, float]]) -> None:
    assert layout(names.split(), [(edge[0], edge[1]) for edge in edges.split()]) == places


LAYERS: list[Node] = [
    ("Relu", "mask", "m", "mask"),
    ("MatMul", "in", "x embed.weight", "h0"),
    ("Mul", "norm0", "h0 layers.0.norm.weight", "n0"),
    ("Add", "masked0", "n0 mask", "k0"),
    ("MatMul", "up0", "k0 layers.0.mlp.up.weight", "u0"),
    ("Relu", "act0", "u0", "a0"),
    ("MatMul", "down0", "a0 layers.0.mlp.down.weight", "d0"),
    ("Add", "res0", "h0 d0", "h1"),
    ("Mul", "norm1", "h1 layers.1.norm.weight", "n1"),
    ("Add", "masked1", "n1 mask", "k1"),
    ("Transpose", "turn1", "layers.1.mlp.up.weight", "t1"),
    ("MatMul", "up1", "k1 t1", "u1"),
    ("Add", "res1", "h1 u1", "h2"),
    ("MatMul", "out", "h2 head.weight", "y"),
]
WEIGHTS: dict[str, Any] = {
    "embed.weight": square(),
    "layers.0.norm.weight": np.ones(4),
    "layers.0.mlp.up.weight": square(),
    "layers.0.mlp.down.weight": square(),
    "layers.1.norm.weight": np.ones(4),
    "layers.1.mlp.up.weight": square(),
    "head.weight": square(),
}


@pytest.fixture
def layers(tmp_path: Path) -> Any:
    return graph(tmp_path / "m.onnx", LAYERS, WEIGHTS, inputs=["x", "m"])


def test_names_of_weights_tell_layers(layers: Any) -> None:
    side = graph_side(layers)
    assert groups(side) == {
        "embed": ["in"],
        "shared": ["mask"],
        "layers/0/norm": ["norm0"],
        "layers/0/mlp": ["masked0", "up0", "act0", "down0"],
        "layers/1/norm": ["res0", "norm1"],
        "layers/1/mlp": ["masked1", "turn1", "up1"],
        "head": ["res1", "out"],
    }
    titles = [group.title for group in side.groups if group.layer == 1]
    assert titles == ["layer 1: norm", "layer 1: mlp"]
    assert {(e.source, e.target): e.values for e in side.edges if e.source == "layers/1/norm"} == {
        ("layers/1/norm", "layers/1/mlp"): 1,
        ("layers/1/norm", "head"): 1,
    }
    mlp = side.group("layers/1/mlp")
    assert mlp is not None
    assert (mlp.weight_bytes, mlp.flops, mlp.nodes) == (64, 2 * 16, 3)
    assert mlp.operators == {"Add": 1, "Transpose": 1, "MatMul": 1}
    assert {one.operator: one.weight_bytes for one in side.operators} == {
        "MatMul": 5 * 64,
        "Mul": 2 * 16,
        "Add": 0,
        "Relu": 0,
        "Transpose": 0,
    }


def test_names_of_nodes_do_too(tmp_path: Path) -> None:
    nodes = [
        ("MatMul", "/encoder/layers.0/attn/MatMul", "x onnx::MatMul_1", "a"),
        ("Relu", "/encoder/layers.0/attn/Relu", "a", "b"),
        ("MatMul", "/encoder/layers.1/attn/MatMul", "b onnx::MatMul_2", "c"),
        ("Relu", "/Relu", "c", "y"),
    ]
    side = graph_side(
        graph(tmp_path / "m.onnx", nodes, {"onnx::MatMul_1": square(), "onnx::MatMul_2": square()})
    )
    assert groups(side) == {
        "encoder.layers/0/attn": [nodes[0][1], nodes[1][1]],
        "encoder.layers/1/attn": [nodes[2][1], nodes[3][1]],
    }


def test_without_names_blocks_end_where_one_value_goes_through(tmp_path: Path) -> None:
    nodes = [
        ("MatMul", "stem", "x a", "s"),
        ("Relu", "act", "s", "s1"),
        ("MatMul", "one", "s1 b", "p"),
        ("Relu", "two", "p", "p1"),
        ("MatMul", "three", "p1 c", "q"),
        ("Add", "skip", "s1 q", "r"),
        ("Relu", "after", "r", "r1"),
        ("MatMul", "last", "r1 d", "y"),
    ]
    side = graph_side(graph(tmp_path / "m.onnx", nodes, dict.fromkeys("abcd", square())))
    assert list(groups(side).values()) == [
        ["stem", "act"],
        ["one", "two", "three", "skip", "after"],
        ["last"],
    ]
    titles = [group.title for group in side.groups]
    assert titles == ["block 1: MatMul, Relu", "block 2: MatMul, Relu", "block 3: MatMul"]


def test_a_name_before_all_others_tells_nothing(tmp_path: Path) -> None:
    nodes = [
        ("MatMul", "", "x gpu_0/a", "p"),
        ("Relu", "", "p", "q"),
        ("MatMul", "", "q gpu_0/b", "r"),
        ("Relu", "", "r", "s"),
        ("MatMul", "", "s gpu_0/c", "y"),
    ]
    weights = dict.fromkeys(("gpu_0/a", "gpu_0/b", "gpu_0/c"), square())
    side = graph_side(graph(tmp_path / "m.onnx", nodes, weights))
    assert [group.id for group in side.groups] == ["block 1", "block 2", "block 3"]
    assert [group.nodes for group in side.groups] == [2, 2, 1]


def test_a_published_network_is_its_blocks() -> None:
    side = graph_side(load_model(LIGHT / "light_resnet50.onnx"))
    titles = [group.title for group in side.groups if group.nodes > 10]
    assert len(titles) == 16  # bottlenecks
    assert all(title.endswith(": Conv, BatchNormalization") for title in titles)
    assert side.groups[-1].title == "block 19: Gemm, Softmax"


def test_a_fused_group_says_what_it_stands_for_and_what_made_it(layers: Any, tmp_path: Path) -> None:
    source = SourceGraph.of(layers)
    fused = [
        node
        for node in LAYERS
        if node[1] not in ("up0", "act0", "down0", "norm0", "turn1", "up1", "in", "mask")
    ]
    nodes: list[Node] = [
        ("Relu", "m2", "m", "mask"),
        ("MatMul", "in", "x embed.weight", "h0"),
        ("Mul", "norm0", "h0 layers.0.norm.weight", "n0"),
        *[n for n in fused if n[1] == "masked0"],
        ("Gemm", "mlp0", "k0 w0", "d0"),
        *[n for n in fused if n[1] in ("res0", "norm1", "masked1")],
        ("MatMul", "up1/q", "k1 layers.1.mlp.up.weight", "u1"),
        *[n for n in fused if n[1] in ("res1", "out")],
    ]
    weights = {name: array for name, array in WEIGHTS.items() if ".0.mlp" not in name}
    after = graph(tmp_path / "after.onnx", nodes, weights | {"w0": square()}, inputs=["x", "m"])
    records = [
        record("first", ("up0 act0", "half")),
        record("second", ("half down0", "mlp0"), ("turn1 up1", "up1/q")),
        record("third", ("mask", "m2")),
    ]
    view = source.view(after, records)
    assert view.before == source.side
    assert groups(view.after)["layers/0/mlp"] == ["masked0", "mlp0"]
    assert groups(view.after)["shared"] == ["m2"]
    mlp = view.after.group("layers/0/mlp")
    assert mlp is not None
    assert (mlp.fused, mlp.passes, mlp.edits) == (True, ["first", "second"], ["first:1", "second:1"])
    assert mlp.nodes_listed[1].edit == "second:1"
    assert mlp.origins["second:1"].sources == ["up0", "act0", "down0"]
    assert mlp.origins["second:1"].through == ["first:1"]
    other = view.after.group("layers/1/mlp")
    assert other is not None
    assert not other.fused  # the Transpose of a weight is no second node
    assert other.passes == ["second"]
    assert not any(group.fused for group in view.before.groups)


def test_seconds_by_node_become_those_of_groups_and_operators(layers: Any) -> None:
    took = {"up0": 1.5, "up0/Fusion/": 0.5, "act0": 1.0, "norm0": 0.5, "of/nobody": 0.25}
    side = graph_side(layers).timed(took)
    assert [g.seconds for g in side.groups if g.layer == 0] == [0.5, 3.0]
    assert {one.operator: one.seconds for one in side.operators}["MatMul"] == 2.0
    assert side.seconds_elsewhere == 0.25


def test_what_subgraphs_hold_counts_for_the_node_that_has_them(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", ["h", f"{name}.weight"], [f"{name}_1"], name=f"{name}_product"),
            helper.make_node("Relu", [f"{name}_1"], [f"{name}_y"], name=f"{name}_act"),
        ]
        out = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), f"{name}.weight")
        return helper.make_graph(nodes, name, [], [out], [weight])

    chosen = helper.make_node(
        "If", ["c"], ["y"], name="if", then_branch=branch("then"), else_branch=branch("else")
    )
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "layers.0.w.weight"], ["h"], name="first"), chosen],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "layers.0.w.weight")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), path)
    side = graph_side(load_model(path))
    assert (side.nodes, side.weight_bytes) == (6, 3 * 64)
    assert side.edges == []
    (group,) = side.groups
    assert group.operators == {"MatMul": 3, "Relu": 2, "If": 1}


@pytest.fixture
def view(tiny_coder_at: Callable[[str], Path]) -> GraphView:
    text = (tiny_coder_at("int4") / "report.json").read_text()
    return Report.model_validate_json(text).views["model"]


def test_of_the_embedded_model_nothing_is_left_out(
    view: GraphView, tiny_coder_at: Callable[[str], Path]
) -> None:
    model = load_model(tiny_coder_at("int4") / "model.onnx")
    assert view.after.nodes == sum(1 for _ in model.graph.all_nodes())
    assert view.after.weight_bytes == weight_bytes(model)
    assert view.before.flops == view.after.flops == step_cost(model).flops
    for side in (view.before, view.after):
        assert sum(one.nodes for one in side.operators) == side.nodes
        assert sum(one.weight_bytes for one in side.operators) == side.weight_bytes
        assert all(len(g.nodes_listed) + g.nodes_left_out == g.nodes for g in side.groups)
        assert all(sum(group.operators.values()) == group.nodes for group in side.groups)
        assert len({(group.x, group.y) for group in side.groups}) == len(side.groups)
    assert {group.id for group in view.before.groups} >= {group.id for group in view.after.groups}


def test_of_the_embedded_model_the_fused_attention_says_which_passes_made_it(view: GraphView) -> None:
    attention = view.after.group("model.layers/3/self_attn")
    assert attention is not None
    assert (attention.title, attention.layer, attention.fused) == ("layer 3: self_attn", 3, True)
    assert attention.operators == {"com.microsoft::MatMulNBits": 2, "com.microsoft::GroupQueryAttention": 1}
    assert attention.passes == [
        "simplify-shapes",
        "raise-rope",
        "raise-attention",
        "pack-qkv",
        "quantize-weights",
        "lower-attention",
    ]
    (kernel,) = [node for node in attention.nodes_listed if node.operator.endswith("GroupQueryAttention")]
    origin = attention.origins[kernel.edit]
    assert kernel.edit == "lower-attention:4"
    assert {edit.partition(":")[0] for edit in origin.through} >= {"raise-rope", "raise-attention"}
    assert len(origin.sources) > 8
    before = view.before.group("model.layers/3/self_attn")
    assert before is not None
    assert set(origin.sources[:8]) <= {node.name for node in before.nodes_listed}


def test_layers_stand_one_below_the_other(view: GraphView) -> None:
    for side in (view.before, view.after):
        y = {group.id: group.y for group in side.groups}
        ordered = [
            y[f"model.layers/{layer}/{part}"]
            for layer in range(6)
            for part in ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
        ]
        assert ordered == sorted(set(ordered))


def test_thirty_two_layers_are_less_than_two_megabytes(tmp_path: Path) -> None:
    nodes: list[Node] = [("Relu", "begin", "x", "h0")]
    weights: dict[str, Any] = {}
    parts = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
    for layer in range(32):
        for place, part in enumerate(parts):
            name, value = f"model.layers.{layer}.{part}.projection.weight", f"h{4 * layer + place}"
            weights[name] = np.zeros((4, 4), np.float32)
            chain = [f"node_{part}_{layer}_{n}" for n in range(40)]
            nodes.append(("MatMul", f"{chain[0]}_product", f"{value} {name}", chain[0]))
            nodes += [("Relu", f"{b}_step", a, b) for a, b in itertools.pairwise(chain)]
            nodes.append(("Identity", f"{chain[0]}_end", chain[-1], f"h{4 * layer + place + 1}"))
    nodes.append(("Relu", "end", "h128", "y"))
    model = graph(tmp_path / "m.onnx", nodes, weights)
    edits = [(" ".join(n[1] for n in nodes[i : i + 41]), nodes[i][1]) for i in range(1, 5249, 41)]
    view = SourceGraph.of(model).view(model, [record("fuse", *edits)])
    assert len(view.after.groups) == 128
    assert view.after.nodes == 5250
    assert len(view.model_dump_json()) < 2 << 20


def test_what_is_written_can_be_read_again(tiny_coder_at: Callable[[str], Path], tmp_path: Path) -> None:
    text = (tiny_coder_at("int4") / "report.json").read_text()
    report = Report.model_validate_json(text)
    report.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == text
    assert json.loads(text)["views"]["model"]["after"]["groups"]
