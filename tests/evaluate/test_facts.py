"""Exact facts of packages: by hand on small graphs, and against each planted change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import BadInput
from graphopt.evaluate import (
    FACTS,
    census,
    census_differences,
    fallback_nodes,
    interface_changes,
    interface_differences,
    measure_facts,
    step_cost,
    stored_by_node,
)
from graphopt.interface import Interface, TensorSpec
from graphopt.ir import infer_types, load_model
from graphopt.metrics import METRICS, Exact
from graphopt.package import GraphFile, Manifest, RunnablePackage, TargetInfo
from graphopt.pipeline import weight_bytes
from graphopt.targets import Target

MS = "com.microsoft"


@pytest.fixture
def package(tmp_path: Path, tiny_coder_at: Callable[[str], Path]) -> RunnablePackage:
    shutil.copytree(tiny_coder_at("int4"), tmp_path / "package")
    return RunnablePackage.load(tmp_path / "package")


def changed(package: RunnablePackage, change: Callable[[onnx.ModelProto], object]) -> RunnablePackage:
    """A copy of `package` whose graph `change` was called with."""
    folder = package.path.with_name("changed")
    shutil.copytree(package.path, folder)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return RunnablePackage.load(folder)


def facts(package: RunnablePackage, baseline: RunnablePackage | None = None) -> dict[str, Exact]:
    metrics = FACTS if baseline else [name for name in FACTS if not name.endswith("_changes")]
    found = measure_facts(package, baseline, metrics=metrics)
    assert all(isinstance(sample.evidence, Exact) for sample in found)
    return {sample.metric: sample.evidence for sample in found if isinstance(sample.evidence, Exact)}


def test_every_fact_is_in_the_table() -> None:
    assert set(FACTS) <= set(METRICS)


def test_of_the_embedded_model(package: RunnablePackage) -> None:
    found = facts(package, package)
    assert all(one.baseline in (None, one.value) for one in found.values())
    layer = 256 * 384 + 256 * 256 + 3 * 256 * 768
    attention = 2 * 256  # a query and a result, with one key
    assert found["flops_per_token"].value == 2 * (6 * (layer + attention) + 256 * 4096)
    table = 2 * (2048 - 1) * 16 * 4  # of cosines and sines all rows but one are left
    assert found["weight_bytes"].value - found["bytes_per_token"].value < table + 4096 * 2 * 4
    assert found["fallback_nodes"].value == found["census_changes"].value == 0
    assert found["interface_changes"].value == 0


def test_another_accuracy_level_is_another_kind(package: RunnablePackage) -> None:
    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = 0

    other = changed(package, change)
    count = census(package)["com.microsoft::MatMulNBits with accuracy_level 4, block_size 128"]
    assert count > 20
    assert facts(other, package)["census_changes"].value == 2
    assert census_differences(census(other), census(package)) == [
        f"com.microsoft::MatMulNBits with accuracy_level 4, block_size 128: {count} -> 0",
        f"com.microsoft::MatMulNBits with block_size 128: 0 -> {count}",
    ]


def test_an_attribute_that_says_the_default_changes_nothing(package: RunnablePackage) -> None:
    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == "MatMulNBits":
                kept = [a for a in node.attribute if a.name != "bits"]
                del node.attribute[:]
                node.attribute.extend(kept)

    assert census(changed(package, change)) == census(package)


def test_an_output_renamed(package: RunnablePackage) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = "scores"
        for node in model.graph.node:
            node.output[:] = ["scores" if name == "logits" else name for name in node.output]

    other = changed(package, change)
    assert facts(other, package)["interface_changes"].value == 1
    assert interface_changes(other, package) == ["output logits is renamed scores"]


def test_an_optional_input_that_is_gone(package: RunnablePackage) -> None:
    def change(model: onnx.ModelProto) -> None:
        kept = [value for value in model.graph.input if value.name != "logits_to_keep"]
        del model.graph.input[:]
        model.graph.input.extend(kept)

    other = changed(package, change)
    assert interface_changes(other, package) == ["input logits_to_keep is gone"]
    assert interface_changes(package, other) == []


def test_an_extra_node_counts(package: RunnablePackage) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Identity", ["input_ids"], ["again"]))

    found = facts(changed(package, change), package)
    assert found["nodes"].baseline is not None
    assert found["nodes"].value == found["nodes"].baseline + 1
    assert found["census_changes"].value == 1


def test_changes_need_a_baseline(package: RunnablePackage) -> None:
    with pytest.raises(BadInput, match="census_changes needs a package"):
        measure_facts(package, None, metrics=["census_changes"])


def test_what_is_not_asked_for_is_not_measured(package: RunnablePackage) -> None:
    assert [s.metric for s in measure_facts(package, None, metrics=["nodes", "kl_mean"])] == ["nodes"]


@pytest.mark.parametrize("recipe", ["int4", "lossless"])
def test_weights_by_node_add_up(recipe: str, tiny_coder_at: Callable[[str], Path]) -> None:
    model = load_model(tiny_coder_at(recipe) / "model.onnx")
    assert sum(stored_by_node(model).values()) == weight_bytes(model)


def spec(name: str, *dims: int | str | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, dims)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ([spec("x", "b", "s")], [spec("x", "batch", "tokens")], []),
        ([spec("x", "n", "n")], [spec("x", "b", "s")], ["input x has shape [n, n] instead of [b, s]"]),
        ([spec("x", "b", "s")], [spec("x", "n", "n")], ["input x has shape [b, s] instead of [n, n]"]),
        (
            [spec("x", "b"), spec("y", "c")],
            [spec("x", "b"), spec("y", "b")],
            ["input y has shape [c] instead of [b]"],
        ),
        ([spec("x", 1)], [spec("x", 2)], ["input x has shape [1] instead of [2]"]),
        ([spec("x", 1)], [spec("x", "b")], ["input x has shape [1] instead of [b]"]),
        ([spec("x", 1)], [spec("x", 1, 1)], ["input x has shape [1] instead of [1, 1]"]),
        ([spec("x", 1, dtype="int32")], [spec("x", 1)], ["input x is int32 instead of float32"]),
        ([], [spec("x", 1)], ["input x is gone"]),
        ([spec("x", 1)], [], ["input x is new"]),
        ([spec("y", "b", 3)], [spec("x", "b", 3)], ["input x is renamed y"]),
        ([spec("y", "b", 4)], [spec("x", "b", 3)], ["input x is gone", "input y is new"]),
    ],
)
def test_interfaces(ours: list[TensorSpec], theirs: list[TensorSpec], said: list[str]) -> None:
    assert interface_differences(Interface(tuple(ours)), Interface(tuple(theirs))) == said


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[Any]], weights: dict[str, Any], path: Path
) -> Any:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid(MS, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    model = load_model(path)
    infer_types(model)
    return model


def floats(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("nodes", "inputs", "weights", "bytes_read", "flops"),
    [
        ([("MatMul", "x w", {})], {"x": ["n", 3]}, {"w": floats(3, 5)}, 60, 30),
        ([("MatMul", "x w", {})], {"x": ["b", "s", 7, 3]}, {"w": floats(3, 5)}, 60, 2 * 7 * 15),
        ([("Gemm", "x w", {"transA": 1})], {"x": [3, "n"]}, {"w": floats(3, 5)}, 60, 30),
        ([("Conv", "x w", {})], {"x": [1, 2, 6, 6]}, {"w": floats(4, 2, 3, 3)}, 288, 2 * 64 * 18),
        ([("ConvTranspose", "x w", {})], {"x": [1, 2, 6, 6]}, {"w": floats(2, 4, 3, 3)}, 288, 2 * 72 * 36),
        ([("Relu", "x", {})], {"x": ["n", 3]}, {}, 0, 0),
        (
            [("Attention", "x x x", {"q_num_heads": 2, "kv_num_heads": 2})],
            {"x": ["b", 5, 8]},
            {},
            0,
            2 * 5 * (40 + 40),
        ),
    ],
    ids=["MatMul", "batched", "Gemm", "Conv", "ConvTranspose", "Relu", "Attention"],
)
def test_costs_by_hand(
    nodes: list[tuple[str, str, dict[str, Any]]],
    inputs: dict[str, list[Any]],
    weights: dict[str, Any],
    bytes_read: int,
    flops: int,
    tmp_path: Path,
) -> None:
    made = [helper.make_node(op, names.split(), ["y"], **given) for op, names, given in nodes]
    cost = step_cost(model_of(made, inputs, weights, tmp_path / "m.onnx"))
    assert (cost.bytes, cost.flops) == (bytes_read, flops)


def test_of_a_table_the_rows_are_read_unless_all_of_it_is(tmp_path: Path) -> None:
    gather = helper.make_node("Gather", ["w", "i"], ["rows"])
    weights = {"w": floats(100, 3), "i": np.array([4, 7])}
    last = helper.make_node("Relu", ["rows"], ["y"])
    assert step_cost(model_of([gather, last], {}, weights, tmp_path / "a.onnx")).bytes == 2 * 12 + 16
    whole = helper.make_node("MatMul", ["rows", "turned"], ["y"])
    turn = helper.make_node("Transpose", ["w"], ["turned"])
    both = model_of([gather, turn, whole], {}, weights, tmp_path / "b.onnx")
    assert step_cost(both).bytes == 1200 + 16  # once


def test_attention_that_projects_multiplies_by_its_weight(tmp_path: Path) -> None:
    node = helper.make_node("Attention", ["x", "w", "b"], ["y"], domain=MS, num_heads=2)
    model = model_of([node], {"x": ["b", 5, 8]}, {"w": floats(8, 24), "b": floats(24)}, tmp_path / "m.onnx")
    made = model.graph.outputs[0]
    made.shape = ir.Shape(["b", 5, 8])
    assert step_cost(model).flops == 2 * (5 * 8 * 24 + 5 * (40 + 40))


def test_of_several_graphs_sizes_are_sums_and_tokens_the_decoders(tmp_path: Path) -> None:
    def package(folder: str, output: str) -> RunnablePackage:
        place = tmp_path / folder
        place.mkdir()
        graphs = {}
        for role, state, width in (("encoder", "", 5), ("decoder", "past", 7)):
            names = f"{state or 'x'} w".split()
            nodes = [helper.make_node("MatMul", names, ["y"])]
            weights = {"w": floats(3, width)}
            model = model_of(nodes, {names[0]: ["n", 3]}, weights, place / f"{role}.onnx")
            if role == "decoder" and output != "y":
                rename(place / "decoder.onnx", output)
            interface = Interface.of(model)
            states = {state: "y"} if state else {}
            graphs[role] = GraphFile(
                file=f"{role}.onnx", inputs=interface.inputs, outputs=interface.outputs, states=states
            )
        manifest = Manifest(
            graphopt="0", source="", task="", family=None, recipe="", lossless=True, graphs=graphs,
            target=TargetInfo(name="cpu"),
        )  # fmt: skip
        return RunnablePackage(place, manifest)

    ours, theirs = package("a", "scores"), package("b", "y")
    found = facts(ours, theirs)
    assert found["nodes"] == Exact(2.0, 2.0)
    assert found["weight_bytes"].value == (15 + 21) * 4
    assert found["bytes_per_token"].value == 21 * 4
    assert found["flops_per_token"].value == 2 * 21
    assert interface_changes(ours, theirs) == ["decoder: output y is renamed scores"]


def rename(path: Path, output: str) -> None:
    model = onnx.load(path)
    model.graph.output[0].name = model.graph.node[0].output[0] = output
    onnx.save(model, path)


def test_of_experts_the_chosen_ones_are_read(tmp_path: Path) -> None:
    weights = {"r": floats(1, 8), "a": floats(8, 6, 4), "b": floats(8, 4, 6)}
    node = helper.make_node("MoE", ["x", "r", "a", "", "b"], ["y"], domain=MS, k=2)
    cost = step_cost(model_of([node], {"x": ["n", 4]}, weights, tmp_path / "m.onnx"))
    assert cost.bytes == 32 + 2 * (96 + 96)
    assert cost.flops == 2 * 2 * (24 + 24)


def test_branches_and_bodies(tmp_path: Path) -> None:
    def branch(name: str, weight: Any) -> onnx.GraphProto:
        product = helper.make_node("MatMul", ["x", f"{name}_w"], [f"{name}_y"])
        out = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        return helper.make_graph([product], name, [], [out], [numpy_helper.from_array(weight, f"{name}_w")])

    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("a", floats(3, 5)), else_branch=branch("b", floats(3, 9))
    )
    model = model_of([node], {"x": [1, 3]}, {"c": np.array(True)}, tmp_path / "m.onnx")
    assert step_cost(model).bytes == 27 * 4 + 1
    assert step_cost(model).flops == 54
    assert sum(stored_by_node(model).values()) == weight_bytes(model) == (15 + 27) * 4 + 1


def test_a_layout_that_is_stored_counts_instead_of_the_weight(tmp_path: Path) -> None:
    made = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = model_of(made, {"x": ["n", 3]}, {"w": floats(3, 5)}, tmp_path / "m.onnx")
    assert step_cost(model, {"w": 64}).bytes == 64


def test_a_prepacked_package_reads_what_is_stored_for_the_kernels(
    tmp_path: Path, tiny_coder_at: Callable[[str], Path]
) -> None:
    from graphopt.package import prepack

    package = RunnablePackage.load(tiny_coder_at("int4"))
    packed = prepack(package, tmp_path / "packed")
    found = facts(packed.package, package)
    assert found["package_bytes"].value > (found["package_bytes"].baseline or 0)
    assert found["weight_bytes"].value == found["weight_bytes"].baseline
    added = 0
    for weight in onnx.load(packed.package.path / "model.onnx", load_external_data=False).graph.initializer:
        stored = {entry.key: entry.value for entry in weight.external_data}
        if "prepacked_0" in stored:
            added += int(stored["prepacked_0"].split(";")[1]) - int(stored["length"])
    assert added > 0
    assert found["bytes_per_token"].value == (found["bytes_per_token"].baseline or 0) + added


class Elsewhere(Target):
    """A target whose provider every onnxruntime for Linux has, and which takes none of these nodes."""

    name = "elsewhere"
    provider = "AzureExecutionProvider"

    def capabilities(self) -> Any:
        raise NotImplementedError

    def lowering(self, recipe: Any) -> Any:
        raise NotImplementedError

    def fingerprint(self) -> dict[str, str]:
        return {}


def test_nodes_that_another_provider_runs(package: RunnablePackage, monkeypatch: pytest.MonkeyPatch) -> None:
    if Elsewhere.provider not in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has no {Elsewhere.provider}")
    assert fallback_nodes(package) == []
    monkeypatch.setattr(package, "target", Elsewhere)
    names = [node.name for node in load_model(package.path / "model.onnx").graph]
    assert sorted(fallback_nodes(package)) == sorted(names)
    (sample,) = measure_facts(package, None, metrics=["fallback_nodes"])
    assert sample.evidence == Exact(float(len(names)))


def test_a_session_that_is_on_another_provider_altogether(
    package: RunnablePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(package.target()), "provider", "SomeExecutionProvider")
    with pytest.raises(BadInput, match="runs on CPUExecutionProvider here"):
        fallback_nodes(package)


def test_of_a_published_network() -> None:
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_resnet50.onnx"
    model = load_model(path)
    infer_types(model)
    # 4.09e9 multiplications: He, Zhang, Ren and Sun 2016 say 3.8e9, with strides of 2 in other places.
    assert step_cost(model).flops == 2 * 4089184256
