"""The closing check of sources that round to fewer bits: right packages pass, wrong ones do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from graphopt import optimize
from graphopt.evaluate import ClosingCheck
from graphopt.evaluate._low_precision import DEPLOYED, PLAIN, LowPrecisionSource
from graphopt.families import Case
from graphopt.plugins import registry
from graphopt.recipes import Budget
from graphopt.runtime import session_model
from tests._quantized import half_network, images, qdq_network, stored_in_int8

Change = Callable[[onnx.ModelProto], None]
HALVES = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float16)


def against_itself(
    source: onnx.ModelProto, x: np.ndarray, folder: Path, change: Change = lambda model: None
) -> ClosingCheck:
    """The check of `source`, changed, as if that were the package made of it."""
    package = onnx.ModelProto.FromString(source.SerializeToString())
    change(package)
    (folder / "package").mkdir()
    before, after = folder / "source.onnx", folder / "package" / "model.onnx"
    onnx.save(source, before)
    onnx.save(package, after)
    rounded = LowPrecisionSource.of(before, "it")
    assert rounded is not None
    target = registry.targets()["cpu"]()
    made = session_model(target.session(after), "the package")
    return rounded.check(target, made, after, (), Budget(), [Case("a call", {"x": x}, {})])


def scaled(name: str, factor: float) -> Change:
    def change(model: onnx.ModelProto) -> None:
        (tensor,) = (t for t in model.graph.initializer if t.name == name)
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array((array * factor).astype(array.dtype), name))

    return change


def with_epsilon(epsilon: float) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "epsilon":
                    attribute.f = epsilon

    return change


def values(found: ClosingCheck, way: str, metric: str = "scaled_difference") -> list[float]:
    return [c.value for c in found.metrics if c.case.endswith(way) and c.metric == metric]


def test_an_untouched_network_of_integers_passes(tmp_path: Path) -> None:
    """With the runtime's optimizations on one side only it would be further from itself than is allowed."""
    found = against_itself(qdq_network(), images(1000), tmp_path)
    assert (found.verdict, values(found, DEPLOYED), values(found, PLAIN)) == ("passed", [0.0], [0.0])
    assert "0.02" in found.reference


@pytest.mark.parametrize(
    "change",
    [
        scaled("classes/w/scale", 1.02),
        scaled("b/w/scale", 1.05),
        scaled("pooled/scale", 0.97),
        scaled("sum/relu/scale", 1.03),
    ],
    ids=["classes", "convolution", "pooled", "sum"],
)
def test_a_wrong_network_of_integers_fails(tmp_path: Path, change: Change) -> None:
    found = against_itself(qdq_network(), images(1000), tmp_path, change)
    assert found.verdict == "failed"
    assert found.reason == f"they differ {DEPLOYED} and {PLAIN}"


def test_a_stored_weight_is_held_to_what_its_floats_give(tmp_path: Path) -> None:
    """The runtime rounds activations where it fuses; without, nothing is rounded, and nothing is allowed."""
    x = np.random.default_rng(1).standard_normal((16, 64)).astype(np.float32)
    right = against_itself(stored_in_int8(), x, tmp_path)
    assert right.verdict == "passed"
    (tmp_path / "wrong").mkdir()
    wrong = against_itself(stored_in_int8(), x, tmp_path / "wrong", scaled("factor", 1.002))
    assert wrong.verdict == "failed"
    assert wrong.reason == f"they differ {PLAIN}; {DEPLOYED} they agree"
    assert "they agree" in wrong.difference()


def test_half_precision_is_measured_against_single(tmp_path: Path) -> None:
    found = against_itself(half_network(), HALVES, tmp_path)
    assert found.verdict == "passed"
    assert "in single precision" in found.reference
    assert 0 < values(found, DEPLOYED, "rms_difference")[0] < values(found, DEPLOYED)[0]


@pytest.mark.parametrize("epsilon", [2e-3, 1e-2])
def test_another_epsilon_fails_in_half_precision(tmp_path: Path, epsilon: float) -> None:
    found = against_itself(half_network(), HALVES, tmp_path, with_epsilon(epsilon))
    assert found.verdict == "failed"
    assert any(c.metric == "rms_difference" for c in found.failures())


OVERFLOWS = """
<ir_version: 8, opset_import: ["" : 17]>
g (float16[N,64] x) => (float16[N,64] y) <float large = {300.0}, float k = {1.0}>
{
  big = Cast<to = 10>(large)
  one = Cast<to = 10>(k)
  a = Mul(x, big)
  b = Mul(a, big)
  y = Mul(b, one)
}
"""


@pytest.mark.parametrize(("factor", "verdict"), [(1, "passed"), (1.01, "failed")])
def test_where_half_precision_ends_the_source_itself_is_the_measure(
    tmp_path: Path, factor: float, verdict: str
) -> None:
    found = against_itself(parser.parse_model(OVERFLOWS), HALVES, tmp_path, scaled("k", factor))
    assert found.verdict == verdict
    assert "single" not in found.reference


def test_floats_of_32_bits_are_no_such_source(tmp_path: Path) -> None:
    onnx.save(
        parser.parse_model(OVERFLOWS.replace("float16", "float").replace("to = 10", "to = 1")),
        tmp_path / "model.onnx",
    )
    assert LowPrecisionSource.of(tmp_path / "model.onnx", "it") is None


@pytest.mark.parametrize(
    ("source", "x"), [(qdq_network(), images(1000)), (half_network(), HALVES)], ids=["integers", "half"]
)
def test_a_package_of_such_a_source_passes(tmp_path: Path, source: onnx.ModelProto, x: np.ndarray) -> None:
    onnx.save(source, tmp_path / "model.onnx")
    np.savez(tmp_path / "inputs.npz", x=x)
    package = optimize(tmp_path / "model.onnx", tmp_path / "out", inputs=tmp_path / "inputs.npz")
    assert package.manifest.closing_check == "passed"
    assert package.report().closing.reference.startswith("the source graph")
