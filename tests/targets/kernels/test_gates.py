"""Two products, one of them gated by the other, as one node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphopt_targets.cpu.kernels import open_session, session_of, with_own_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from scipy.special import expit

from graphopt.runtime import open_session as stock_session
from tests.targets.kernels._forms import THREE, in_each
from tests.targets.kernels._products import expected, product

own = in_each(THREE)
CLOSE = 1e-5
"""Of the largest result, as of one product."""


def gated(
    k: int,
    n: int,
    block: int,
    bits: int = 4,
    *,
    zeros: bool = False,
    turned: bool = False,
    seed: int = 0,
) -> tuple[onnx.ModelProto, list[onnx.ModelProto]]:
    """Mul(QuickGelu(gate), up), or with its inputs the other way round; and both products alone."""
    alone = [product(k, n, block, bits, zeros=zeros, seed=s) for s in (seed, seed + 1)]
    for model, name in zip(alone, ("gate", "up"), strict=True):
        for tensor in model.graph.initializer:
            if tensor.name == "scales":
                values = onnx.numpy_helper.to_array(tensor) / np.float32(16 * k**0.5)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, "scales"))
        onnx.compose.add_prefix_graph(model.graph, f"{name}_", rename_inputs=False, inplace=True)
        model.graph.node[0].name = name
    whole = onnx.ModelProto()
    whole.CopyFrom(alone[0])
    whole.graph.node.extend(alone[1].graph.node)
    whole.graph.initializer.extend(alone[1].graph.initializer)
    silu = helper.make_node("QuickGelu", ["gate_y"], ["silu"], domain="com.microsoft", alpha=1.0)
    inputs = ["up_y", "silu"] if turned else ["silu", "up_y"]
    whole.graph.node.extend([silu, helper.make_node("Mul", inputs, ["y"])])
    del whole.graph.output[:]
    whole.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    return whole, alone


def wanted(alone: list[onnx.ModelProto], x: Any) -> Any:
    models = []
    for model, name in zip(alone, ("gate", "up"), strict=True):
        plain = onnx.ModelProto()
        plain.CopyFrom(model)
        for tensor in plain.graph.initializer:
            tensor.name = tensor.name.removeprefix(f"{name}_")
        models.append(plain)
    gate, up = (expected(model, x) for model in models)
    return gate * expit(gate) * up


def operators(model: onnx.ModelProto) -> list[str]:
    with_own_kernels(model)
    return [node.op_type for node in model.graph.node]


def close(got: Any, right: Any) -> None:
    np.testing.assert_allclose(got, right, rtol=0, atol=CLOSE * np.abs(right).max())


@own
@pytest.mark.parametrize(("bits", "block"), [(2, 64), (4, 32), (4, 256), (8, 32), (8, 128)])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 40) | st.sampled_from([512, 513, 600]),
    chunks=st.integers(1, 4),
    n=st.integers(1, 150),
    zeros=st.booleans(),
    turned=st.booleans(),
    seed=st.integers(0, 100),
)
def test_results_are_the_definitions(
    bits: int, block: int, rows: int, chunks: int, n: int, zeros: bool, turned: bool, seed: int
) -> None:
    k = chunks * max(block, 128)
    model, alone = gated(k, n, block, bits, zeros=zeros, turned=turned, seed=seed)
    x = np.random.default_rng(seed).standard_normal((rows, k), np.float32)

    close(session_of(model).run(None, {"x": x})[0], wanted(alone, x))


@own
def test_far_gates_are_open_or_shut(tmp_path: Path) -> None:
    model, alone = gated(256, 40, 128)
    x = np.random.default_rng(0).standard_normal((3, 256), np.float32) * 3000
    onnx.save(model, tmp_path / "model.onnx")

    got = open_session(tmp_path / "model.onnx").run(None, {"x": x})[0]

    assert np.abs(wanted(alone, x)).max() > 1e6
    close(got, wanted(alone, x))
    close(got, stock_session(tmp_path / "model.onnx").run(None, {"x": x})[0])


def test_they_become_one_node() -> None:
    model, _ = gated(256, 40, 128)

    assert operators(model) == ["GatedMatMulNBits"]
    (node,) = model.graph.node
    assert list(node.input) == ["x", "gate_w", "gate_scales", "up_w", "up_scales"]
    assert (node.name, list(node.output)) == ("gate", ["y"])


def test_zero_points_come_last() -> None:
    model, _ = gated(256, 40, 128, zeros=True)

    assert operators(model) == ["GatedMatMulNBits"]
    assert list(model.graph.node[0].input) == [
        *("x", "gate_w", "gate_scales", "up_w", "up_scales", "gate_zeros", "up_zeros")
    ]


def _zero_points(model: onnx.ModelProto) -> None:
    zeros = np.zeros((40, 1), np.uint8)
    model.graph.initializer.append(onnx.numpy_helper.from_array(zeros, "zeros"))
    model.graph.node[1].input.append("zeros")


def _alpha(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute[0].f = 1.702


def _no_alpha(model: onnx.ModelProto) -> None:
    del model.graph.node[2].attribute[:]


def _other_rows(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "z"


def _bias(model: onnx.ModelProto) -> None:
    bias = np.zeros(40, np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(bias, "bias"))
    model.graph.node[1].input.extend(["", "", "bias"])


def _between_is_an_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("silu", TensorProto.FLOAT, None))


def _between_is_used(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Neg", ["up_y"], ["z"]))


def _itself(model: onnx.ModelProto) -> None:
    model.graph.node[3].input[1] = "gate_y"


def _not_served(model: onnx.ModelProto) -> None:
    (level,) = (a for a in model.graph.node[1].attribute if a.name == "accuracy_level")
    level.i = 0


def _no_inputs(model: onnx.ModelProto) -> None:
    del model.graph.node[2].input[:]


def _one_input(model: onnx.ModelProto) -> None:
    del model.graph.node[3].input[1]


@pytest.mark.parametrize(
    "change",
    [
        _no_inputs,
        _one_input,
        _alpha,
        _no_alpha,
        _other_rows,
        _bias,
        _zero_points,
        _between_is_an_output,
        _between_is_used,
        _itself,
        _not_served,
    ],
)
def test_what_stays_apart(change: Callable[[onnx.ModelProto], None]) -> None:
    model, _ = gated(256, 40, 128)
    change(model)

    assert operators(model)[:4] == ["MatMulNBits", "MatMulNBits", "QuickGelu", "Mul"]
