"""What the cpu target says of a graph is what onnxruntime does with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphopt.ir import infer_types, parse, to_proto
from graphopt.plugins import registry
from graphopt.targets import Capabilities, Unsupported

Found = Callable[[str], list[Unsupported]]

# Refused for an attribute's value, which no registry tells: recurrences with layout=1, and a locale.
ATTRIBUTES = {
    "test_gru_batchwise",
    "test_lstm_batchwise",
    "test_simple_rnn_batchwise",
    "test_strnormalizer_export_monday_casesensintive_lower",
    "test_strnormalizer_export_monday_casesensintive_upper",
    "test_strnormalizer_export_monday_empty_output",
    "test_strnormalizer_export_monday_insensintive_upper_twodim",
}


@pytest.fixture
def capabilities() -> Capabilities:
    return registry.targets()["cpu"]().capabilities()


@pytest.fixture
def found(capabilities: Capabilities) -> Found:
    """What is unsupported in the model written in ONNX's textual syntax, which onnxruntime agrees with."""

    def found(source: str) -> list[Unsupported]:
        model = parse(source)
        infer_types(model)
        result = list(capabilities.unsupported(model))
        assert bool(result) != loads(to_proto(model))
        return result

    return found


def loads(model: onnx.ModelProto) -> bool:
    options: Any = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def one(node: str, *, kind: str = "float", opset: int = 23) -> str:
    imports = f'"" : {opset}, "com.microsoft" : 1, "nobody" : 1'
    return f"""
        <ir_version: 10, opset_import: [{imports}]>
        g ({kind}[N, 16] x) => ({kind}[N, 16] y)
        {{ {node} }}
    """


@pytest.mark.parametrize(
    ("op_type", "version", "dtype", "expected"),
    [
        ("MatMul", 13, "tensor(float)", True),
        ("MatMul", 23, "tensor(float)", True),
        ("MatMul", 23, "tensor(float16)", False),
        ("MatMul", 23, "tensor(string)", False),
        ("Swish", 24, "tensor(float)", False),
        ("NoSuchOperator", 23, "tensor(float)", False),
    ],
)
def test_kernels_by_version_and_type(
    capabilities: Capabilities, op_type: str, version: int, dtype: str, expected: bool
) -> None:
    assert capabilities.supports("", op_type, version, {"T": dtype}) is expected


@pytest.mark.parametrize(
    ("op_type", "dtype", "expected"),
    [
        ("GroupQueryAttention", "tensor(float)", True),
        ("GroupQueryAttention", "tensor(float16)", True),
        ("MultiHeadAttention", "tensor(float)", True),
        ("MultiHeadAttention", "tensor(float16)", False),
        ("PagedAttention", "tensor(float16)", False),
    ],
)
def test_contributed_kernels(capabilities: Capabilities, op_type: str, dtype: str, expected: bool) -> None:
    assert capabilities.supports("com.microsoft", op_type, 1, {"T": dtype}) is expected


@pytest.mark.parametrize(
    "source",
    [
        one("c = Constant <value = float {2.0}> ()\n y = Mul(x, c)"),
        one("y = Swish(x)", opset=24),
        one("y = MatMul(x, x)", kind="float16"),
        one("y = RMSNormalization(x, x)", kind="float16"),
        one("s = SequenceConstruct(x, x)\n i = Constant <value = int64 {0}> ()\n y = SequenceAt(s, i)"),
    ],
    ids=["constant", "expanded", "widened", "expanded-and-widened", "sequence"],
)
def test_what_the_runtime_makes_runnable_is_supported(found: Found, source: str) -> None:
    assert found(source) == []


def test_an_operator_without_a_kernel(found: Found) -> None:
    (only,) = found(one("h = Relu(x)\n y = SwiGLU(h, x)", opset=28))

    assert str(only) == (
        "node 'y/SwiGLU' (ai.onnx::SwiGLU): the CPU provider has no kernel for it at version 28 of its domain"
    )


def test_a_type_without_a_kernel_is_told_with_those_that_have_one(found: Found) -> None:
    (only,) = found(one("y = Celu(x)", kind="double"))

    assert only.node == "y/Celu"
    assert only.reason == "the CPU provider has no kernel for tensor(double), only for tensor(float)"


def test_an_operator_of_a_domain_nobody_knows(found: Found) -> None:
    (only,) = found(one("y = nobody.Thing(x)"))

    assert (only.operator, only.reason) == ("nobody::Thing", "onnxruntime knows no such operator")


def test_a_node_inside_a_branch(found: Found) -> None:
    refused = found("""
        <ir_version: 10, opset_import: ["" : 23]>
        g (bool c, double[2] x) => (double[2] y)
        {
          y = If (c) <
            then_branch = then () => (double[2] t) { t = Celu(x) },
            else_branch = else () => (double[2] e) { e = Neg(x) }
          >
        }
    """)

    assert [one.node for one in refused] == ["t/Celu"]


def test_a_function_of_the_model_is_not_an_operator(found: Found) -> None:
    assert (
        found("""
        <ir_version: 10, opset_import: ["" : 23, "local" : 1]>
        g (float[2] x) => (float[2] y) { y = local.twice(x) }
        <domain: "local", opset_import: ["" : 23]>
        twice (a) => (b) { b = Add(a, a) }
    """)
        == []
    )


def test_the_edit_that_made_a_node_is_told(capabilities: Capabilities) -> None:
    model = parse(one("y = nobody.Thing(x)"))
    model.graph[0].metadata_props["graphopt.provenance"] = "lower-thing#2:7 <- a, b"

    assert capabilities.unsupported(model)[0].origin == "lower-thing#2:7"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the suite, as it computes what it expects
def test_onnxruntime_agrees_on_every_operator_of_the_onnx_backend_suite(capabilities: Capabilities) -> None:
    from onnx.backend.test.case.node import collect_testcases

    wrong = set()
    for case in collect_testcases():
        model = ir.from_proto(case.model)
        infer_types(model)
        if bool(capabilities.unsupported(model)) == loads(case.model):
            wrong.add(case.name)

    assert wrong == ATTRIBUTES
