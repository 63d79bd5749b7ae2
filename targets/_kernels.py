"""What onnxruntime's CPU provider has kernels for: read off its registries, tried where they do not say."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.targets import Capabilities, Unsupported

_PROVIDER = "CPUExecutionProvider"
_HALF = {"tensor(float16)"}
_Kernel = tuple[int, int, Mapping[str, Sequence[str]]]


class CpuCapabilities(Capabilities):
    """Kernels of the installed onnxruntime's CPU provider."""

    def supports(self, domain: str, op_type: str, version: int, dtypes: Mapping[str, str]) -> bool:
        since = _since(domain, op_type, version)
        return any(
            first <= since <= last and all(t in allowed.get(v, (t,)) for v, t in dtypes.items())
            for first, last, allowed in _kernels().get((domain, op_type), ())
        )

    def accepts(self, rule: str, *values: int) -> bool:
        return _tried(rule, values)

    def unsupported(self, model: ir.Model) -> Sequence[Unsupported]:
        functions = {(f.domain, f.name) for f in model.functions.values()}
        return [
            Unsupported(
                node.name or node.outputs[0].name or "?",
                f"{node.domain or 'ai.onnx'}::{node.op_type}",
                reason,
            )
            for node in model.graph.all_nodes()
            if (node.domain, node.op_type) not in functions
            if (reason := self._reason(node, model.opset_imports.get(node.domain, 1)))
        ]

    def _reason(self, node: ir.Node, version: int) -> str | None:
        if self.supports(node.domain, node.op_type, version, dtypes := _dtypes(node, version)):
            return None
        if _has_function_body(node, version):
            return None
        if not self.supports(node.domain, node.op_type, version, {}):
            return f"the CPU provider has no kernel for it at version {version} of its domain"
        wide = {v: t for v, t in dtypes.items() if t not in _HALF}
        if wide != dtypes and self.supports(node.domain, node.op_type, version, wide):
            return None  # onnxruntime computes in float32 where it has no float16 kernel
        return f"the CPU provider has no kernel for {', '.join(sorted(set(dtypes.values())))}"


@functools.cache
def _kernels() -> Mapping[tuple[str, str], list[_Kernel]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found: dict[tuple[str, str], list[_Kernel]] = defaultdict(list)
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == _PROVIDER:
            first, last = kernel.version_range
            found[kernel.domain, kernel.op_name].append((first, last, kernel.type_constraints))
    return found


@functools.cache
def _schemas() -> Mapping[tuple[str, str], dict[int, list[str]]]:
    """For each operator, by the version it came with: the type variable of each input."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found: dict[tuple[str, str], dict[int, list[str]]] = defaultdict(dict)
    for schema in state.get_all_operator_schema():
        found[schema.domain, schema.name][schema.since_version] = [p.typeStr for p in schema.inputs]
    return found


def _since(domain: str, op_type: str, version: int) -> int:
    """The version of the domain that brought the form of the operator in force at `version`."""
    return max((v for v in _schemas().get((domain, op_type), {}) if v <= version), default=version)


def _dtypes(node: ir.Node, version: int) -> dict[str, str]:
    variables = (
        _schemas().get((node.domain, node.op_type), {}).get(_since(node.domain, node.op_type, version), [])
    )
    return {
        variable: f"tensor({_NAMES.get(value.dtype, value.dtype.name.lower())})"
        for variable, value in zip(variables, node.inputs, strict=False)
        if value is not None and value.dtype is not None and not variable.startswith("tensor(")
    }


_NAMES = {ir.DataType.FLOAT: "float", ir.DataType.DOUBLE: "double"}


def _has_function_body(node: ir.Node, version: int) -> bool:
    """Whether the runtime can expand the operator into others."""
    if node.domain != "" or not onnx.defs.has(node.op_type):
        return False
    try:
        schema = onnx.defs.get_schema(node.op_type, version)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


@functools.cache
def _tried(rule: str, values: tuple[int, ...]) -> bool:
    """Whether the smallest graph with these sizes runs."""
    node, feeds = _RULES[rule](*values)
    return _runs(node, feeds)


def _runs(node: onnx.NodeProto, feeds: Mapping[str, np.ndarray]) -> bool:
    import onnxruntime as ort

    inputs = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    outputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in node.output]
    graph = onnx.helper.make_graph([node], "tried", inputs, outputs)
    imports = [onnx.helper.make_opsetid("", 23), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=[_PROVIDER]).run(None, dict(feeds))
    except Exception:  # whatever it says, the answer is no
        return False
    return True


def _rotary_head_size(size: int) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    names = ["q", "", "", "past_key", "past_value", "seqlens", "total", "cos", "sin"]
    node = onnx.helper.make_node(
        "GroupQueryAttention", names, ["y", "k", "v"], domain="com.microsoft",
        num_heads=1, kv_num_heads=1, do_rotary=1,
    )  # fmt: skip
    table = np.ones((4, size // 2), np.float32)
    return node, {
        "q": np.ones((1, 2, 3 * size), np.float32),
        "past_key": np.ones((1, 1, 0, size), np.float32),
        "past_value": np.ones((1, 1, 0, size), np.float32),
        "seqlens": np.asarray([1], np.int32),
        "total": np.asarray(2, np.int32),
        "cos": table,
        "sin": table,
    }


def _matmul_nbits(bits: int, block: int) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    blocks, columns = 2, 16
    node = onnx.helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft",
        K=blocks * block, N=columns, bits=bits, block_size=block, accuracy_level=4,
    )  # fmt: skip
    return node, {
        "x": np.ones((1, blocks * block), np.float32),
        "w": np.zeros((columns, blocks, block * bits // 8), np.uint8),
        "s": np.ones((columns, blocks), np.float32),
    }


_RULES: dict[str, Callable[..., tuple[onnx.NodeProto, dict[str, np.ndarray]]]] = {
    "rotary-head-size": _rotary_head_size,
    "matmul-nbits": _matmul_nbits,
}


def rules() -> Iterator[str]:
    """The names `CpuCapabilities.accepts` knows."""
    return iter(_RULES)
