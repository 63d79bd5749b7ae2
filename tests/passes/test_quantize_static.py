"""quantize-static: which kernels a runtime makes of it, how close it is, what is found out and refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphopt_passes._floats import is_rounded_at_load, kept_in_floats
from graphopt_passes.quantize_static import QuantizeStatic, _some
from graphopt_targets.cpu import CpuTarget
from graphopt_targets.cpu._capabilities import CpuCapabilities
from graphopt_targets.cpu._loaded import loaded_nodes
from onnx import numpy_helper

from graphopt.calibrate import CalibrationData, from_arrays
from graphopt.interface import Interface
from graphopt.ir import infer_types, initializer, parse, to_proto
from graphopt.pipeline import Context, Edit, RunHooks, RunResult
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.targets import Capabilities
from graphopt.verify import EditVerifier
from tests.passes._vision import BLOCKS, Block, loaded, weighted

NAME = "quantize-static"


def data_of(model: ir.Model, samples: int = 16) -> CalibrationData:
    (x,) = Interface.of(model).inputs
    shape = [d if isinstance(d, int) else samples for d in x.dims]
    feeds = {x.name: np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    return from_arrays("samples", [feeds], Interface.of(model))


def static(model: ir.Model, target: Any = None, **options: Any) -> tuple[RunResult, Context]:
    infer_types(model)
    context = Context(model, target=target, calibration=data_of(model))
    recipe = Recipe("test", "", Budget(), (Step("unfold-conv-transpose"), Step(NAME, options)))
    return run_recipe(model, recipe, context), context


def signal_to_noise(block: Block, model: ir.Model) -> float:
    x = np.random.default_rng(2).standard_normal((4, *block.shape)).astype(np.float32)
    expected, got = (loaded(m).run(None, {"x": x})[0] for m in (block.model(), model))
    return float(10 * np.log10((expected**2).sum() / ((expected - got) ** 2).sum()))


@pytest.mark.parametrize("block", BLOCKS.values(), ids=[*BLOCKS])
def test_kernels_that_the_runtime_makes_of_it(block: Block, tmp_path: Path) -> None:
    model = block.model()
    static(model, CpuTarget(), terms=0)

    found = Counter(node.op_type for node in loaded(model, tmp_path / "loaded.onnx"))
    assert found == block.kernels
    assert signal_to_noise(block, model) > 25


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_every_method_is_close(method: str) -> None:
    model = BLOCKS["residual"].model()
    static(model, method=method)
    assert signal_to_noise(BLOCKS["residual"], model) > 20


def test_signed_activations_of_a_rectified_value_keep_the_rectifier() -> None:
    model = BLOCKS["residual"].model()
    static(model, activations="int8")

    assert Counter(n.op_type for n in model.graph)["Relu"] == 2
    assert all(i.const_value.numpy() == 0 for n, i in model.graph.initializers.items() if n.endswith("/zero"))
    assert signal_to_noise(BLOCKS["residual"], model) > 25


class Signed(CpuTarget):
    def capabilities(self) -> Any:
        class SignedCapabilities(CpuCapabilities):
            def signed_activations(self) -> bool:
                return True

        return SignedCapabilities()


@pytest.mark.parametrize(
    ("target", "dtype"), [(CpuTarget(), np.uint8), (Signed(), np.int8), (None, np.uint8)]
)
def test_activations_are_what_the_target_wants(target: Any, dtype: Any) -> None:
    model = BLOCKS["residual"].model()
    static(model, target)
    zeros = [i.const_value for n, i in model.graph.initializers.items() if n.endswith("/zero")]
    assert {zero.numpy().dtype for zero in zeros} == {np.dtype(dtype)}


def test_weights_of_seven_bits() -> None:
    model = BLOCKS["residual"].model()
    static(model, bits=7)
    weights = [v.const_value.numpy() for n, v in model.graph.initializers.items() if n.endswith("/int8")]
    assert {int(np.abs(w).max()) for w in weights} == {63}


def test_an_output_without_weights_keeps_its_bias() -> None:
    """Its bias in steps of a scale that next to nothing decides would be no int32."""
    model = weighted(
        "x", [1, 4, 4], "y = Conv(x, w, b)", w=np.float32([[[[0.5]]], [[[1e-12]]]]), b=np.float32([1.0, 3.0])
    )
    static(model)
    y = loaded(model).run(None, {"x": np.zeros((1, 1, 4, 4), np.float32)})[0]
    assert y[0, :, 0, 0] == pytest.approx([1.0, 3.0], abs=0.03)


# What is planted into the edit of a convolution, and has to be found out by running it.


def wrong_zero_point(edit: Edit) -> None:
    (widened,) = (node for node in edit.insert if (node.name or "").endswith("/in"))
    zero = initializer("planted", ir.tensor(np.asarray(25, np.uint8)))
    widened.replace_input_with(2, zero)
    edit.initializers = [*edit.initializers, zero]


def swapped_axis(edit: Edit) -> None:
    (weight,) = (n for n in edit.insert if (n.name or "").endswith("/weight"))
    weight.attributes["axis"] = ir.AttrInt64("axis", 1)


def one_scale_for_all_outputs(edit: Edit) -> None:
    held = {(v.name or "").rpartition("/")[2]: v for v in edit.initializers}
    scales, weight = held["scales"].const_value.numpy(), held["int8"].const_value.numpy()
    widest = np.full_like(scales, scales.max())
    shares = (scales / widest)[:, None, None, None]
    held["scales"].const_value = ir.tensor(widest)
    held["int8"].const_value = ir.tensor(np.rint(weight * shares).astype(np.int8))


def signed(edit: Edit) -> None:
    (zero,) = (value for value in edit.initializers if (value.name or "").endswith("/out/zero"))
    zero.const_value, zero.dtype = ir.tensor(np.asarray(0, np.int8)), ir.DataType.INT8
    for node in edit.insert:
        if (node.name or "").endswith("/out/integers"):
            node.outputs[0].dtype = ir.DataType.INT8


PLANTED = (wrong_zero_point, swapped_axis, one_scale_for_all_outputs, signed)


@pytest.fixture(scope="module")
def verifier() -> Iterator[EditVerifier]:
    with EditVerifier() as made:
        yield made


def uneven() -> ir.Model:
    """A convolution, one of whose outputs is one input and the others are sums of many small parts."""
    w = np.full((4, 256, 1, 1), 0.012, np.float32)
    w[0] = 0
    w[0, 0] = 1
    return weighted("x", [256, 2, 2], "a = Abs(x) p = Conv(a, w) y = Relu(p)", w=w)


def first_edit(model: ir.Model, op_type: str) -> Edit:
    infer_types(model)
    context = Context(model, calibration=data_of(model))
    for edit in QuantizeStatic().edits(model.graph, context):
        assert isinstance(edit, Edit)
        if edit.remove[0].op_type == op_type:
            return edit
    raise AssertionError(op_type)


def test_an_edit_is_checked_on_what_it_is_calibrated_on(verifier: EditVerifier) -> None:
    model = BLOCKS["residual"].model()
    verdict = verifier.check(model, first_edit(model, "Conv"), QuantizeStatic.contract)

    assert (verdict.status, verdict.reason) == ("within budget", "on what the model is calibrated on")
    assert verdict.value > 30


@pytest.mark.parametrize("plant", PLANTED)
def test_what_is_wrong_is_found_out(verifier: EditVerifier, plant: Callable[[Edit], None]) -> None:
    model = uneven()
    edit = first_edit(model, "Conv")
    right = verifier.check(model, edit, QuantizeStatic.contract)
    plant(edit)
    wrong = verifier.check(model, edit, QuantizeStatic.contract)

    assert (right.status, wrong.status) == ("within budget", "failed")


def outlying(loud: float) -> ir.Model:
    """The second of three convolutions makes a channel that is `loud`, and the last one muffles it."""
    rng = np.random.default_rng(3)
    w, v, u = (rng.standard_normal((8, 8, 1, 1)).astype(np.float32) for _ in range(3))
    v[0] *= loud
    u[:, 0] /= loud
    return weighted("x", [8, 4, 4], "a = Conv(x, w) b = Conv(a, v) y = Conv(b, u)", w=w, v=v, u=u)


def test_what_breaks_in_integers_stays_in_floats() -> None:
    x = np.random.default_rng(2).standard_normal((4, 8, 4, 4)).astype(np.float32)

    def found(loud: float, damage: float) -> tuple[list[str], float]:
        model = outlying(loud)
        _, context = static(model, damage=damage)
        expected, got = (loaded(m).run(None, {"x": x})[0] for m in (outlying(loud), model))
        noise = float(((expected - got) ** 2).sum() / (expected**2).sum())
        return context.decisions["quantize-static/floats"], -10 * np.log10(noise)

    assert found(1, 0.004)[0] == []
    assert found(300, 0.004)[0] == ["b/Conv", "y/Conv"]
    assert found(300, 9.0)[0] == []
    assert found(300, 0.004)[1] > found(300, 9.0)[1] + 20


KEPT = {
    "Conv": ("k = Conv<pads = [1, 1, 1, 1]>(a, v, c)  r = Relu(k)  y = Conv(r, u)", (8, 8, 3, 3)),
    "ConvTranspose": (
        "k = ConvTranspose<pads = [1, 1, 1, 1]>(a, v, c)  r = Relu(k)  y = Conv(r, u)", (8, 8, 3, 3)
    ),
}  # fmt: skip


@pytest.mark.parametrize("op_type", KEPT)
def test_what_stays_in_floats_is_not_rounded_by_the_runtime(op_type: str, tmp_path: Path) -> None:
    """Between two roundings onnxruntime rounds a weight of floats itself, with one scale for all outputs."""
    rng = np.random.default_rng(0)
    nodes, shape = KEPT[op_type]
    w, u = (rng.standard_normal((8, 8, 1, 1)).astype(np.float32) for _ in range(2))
    v = rng.standard_normal(shape).astype(np.float32)
    v[0] *= 100
    model = weighted(
        "x", [8, 4, 4], f"a = Conv(x, w)  {nodes}",
        w=w, v=v, c=np.zeros(8, np.float32), u=u, n=np.asarray([0, 8, 4, 4], np.int64),
    )  # fmt: skip
    static(model, CpuTarget(), exclude="k/*", terms=0)

    found = [node for node in loaded_nodes(to_proto(model).SerializeToString()) if node.operator == op_type]
    assert [node.kind for node in found] == ["floats"]
    as_loaded = next(n for n in loaded(model, tmp_path / "loaded.onnx") if n.op_type == op_type)
    graph = onnx.load(tmp_path / "loaded.onnx").graph
    held = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    assert held[as_loaded.input[1]].dtype == np.float32
    assert len(np.unique(held[as_loaded.input[1]])) > 256


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_matrix_of_floats_between_roundings_gets_a_scale_for_each_channel(transposed: int) -> None:
    model = weighted(
        "x", [3],
        f"q = QuantizeLinear(x, s, z)  a = DequantizeLinear(q, s, z)  b = Gemm<transB = {transposed}>(a, w)"
        "  r = Relu(b)  p = QuantizeLinear(r, s, z)  y = DequantizeLinear(p, s, z)",
        s=np.asarray(0.1, np.float32), z=np.asarray(7, np.uint8),
        w=np.ones((5, 3) if transposed else (3, 5), np.float32),
    )  # fmt: skip
    (node,) = (node for node in model.graph if is_rounded_at_load(node))
    edit = kept_in_floats(node)
    assert [value.const_value.numpy().tolist() for value in edit.initializers] == [
        [pytest.approx(0.1)] * 3, [7] * 3
    ]  # fmt: skip
    assert edit.insert[0].attributes.get_int("axis") == 1


def reasons(result: RunResult) -> list[str]:
    return [miss.reason for miss in result.records[-1].near_misses]


class NoIntegers(CpuTarget):
    def capabilities(self) -> Any:
        class None_(Capabilities):
            def supports(self, *_: Any) -> bool:
                return True

            def unsupported(self, model: ir.Model) -> list[Any]:
                return []

        return None_()


def test_a_target_without_integers_is_named() -> None:
    result, _ = static(BLOCKS["residual"].model(), NoIntegers())
    assert reasons(result) == ["the target computes no convolutions in integers"]


def test_a_model_with_few_convolutions_is_left_alone() -> None:
    w = np.eye(4, dtype=np.float32)
    products = " ".join(f"a{i} = MatMul(a{i - 1}, w)" for i in range(1, 7))
    model = weighted("x", [4, 4, 4], f"a0 = Conv(x, c) {products} y = Relu(a6)", w=w, c=w[..., None, None])
    result, context = static(model)
    assert result.records[-1].applied == 0
    assert context.decisions == {}


def test_samples_of_a_call_with_a_number_in_it_are_taken_of_the_rest() -> None:
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]>
        g (float[N,3] x, float s) => (float[N,3] y) { y = Mul(x, s) }"""
    )
    arrays = {"x": np.ones((8, 3), np.float32), "s": np.float32(2)}
    data = from_arrays("calls", [{k: np.asarray(v) for k, v in arrays.items()}], Interface.of(model))
    some = _some(Context(model, calibration=data), 4)
    assert {name: array.shape for name, array in some.items()} == {"x": (4, 3), "s": ()}


def test_samples_lie_apart() -> None:
    model = weighted("x", [1], "y = Relu(x)")
    x = np.arange(64, dtype=np.float32)[:, None]
    context = Context(model, calibration=from_arrays("samples", [{"x": x}], Interface.of(model)))
    assert _some(context, 4)["x"].ravel().tolist() == [0, 16, 32, 48]
    assert _some(context, 80)["x"].ravel().tolist() == x.ravel().tolist()


def test_a_quiet_sample_does_not_take_an_edit_back() -> None:
    """It uses few steps of a range that louder ones need: by itself it would say that 8 bits are too few."""
    w = np.eye(4, dtype=np.float32)[..., None, None]
    model = weighted("x", [4, 4, 4], "a = Conv(x, w) b = Relu(a) y = Conv(b, w)", w=w)
    infer_types(model)
    x = np.random.default_rng(1).standard_normal((64, 4, 4, 4)).astype(np.float32)
    x[:8] /= 200
    context = Context(model, calibration=from_arrays("samples", [{"x": x}], Interface.of(model)))
    with EditVerifier() as verifier:
        recipe = Recipe("test", "", Budget(), (Step(NAME, {"damage": 9.0}),))
        result = run_recipe(model, recipe, context, hooks=RunHooks(verifier=verifier))
    assert result.records[-1].applied == 2
