"""A node on its own, put to onnxruntime: the answer where the registries give none."""

from __future__ import annotations

import functools
from typing import Any

import onnx
import onnx_ir as ir

from graphopt.ir import holds_map

__all__ = ["loads", "node_runs", "type_text"]

_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
_ELEMENTS = {ir.DataType.FLOAT: "float", ir.DataType.DOUBLE: "double"}


def type_text(value: ir.Value | None) -> str | None:
    """The type of `value` as onnxruntime writes it, "seq(tensor(float))"; None if unknown or a map."""
    if value is None or value.type is None or holds_map(value.type):
        return None
    return _text(value.type)


def _text(kind: ir.TypeProtocol) -> str:
    if isinstance(kind, ir.SequenceType):
        return f"seq({_text(kind.elem_type)})"
    if isinstance(kind, ir.OptionalType):
        return f"optional({_text(kind.elem_type)})"
    return f"tensor({_ELEMENTS.get(kind.dtype, kind.dtype.name.lower())})"


def loads(node: ir.Node, version: int) -> bool:
    """Whether onnxruntime opens a session on the node alone, at `version` of its domain.

    Where the node cannot stand alone, because the type of an input is unknown or it holds a graph, the
    answer is whether onnx defines the operator by others.
    """
    inputs = [value for value in node.inputs if value is not None]
    holds_graph = any(a.type in _GRAPHS for a in node.attributes.values())
    if holds_graph or any(type_text(value) is None for value in inputs):
        return _has_body(node, version)
    proto = ir.to_proto(node)
    proto.name = ""
    graph = onnx.GraphProto(name="trial", node=[proto])
    graph.input.extend({value.name: ir.to_proto(value) for value in inputs}.values())
    graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in node.outputs if value.name)
    return _opens(_model(graph, {node.domain: version}).SerializeToString(deterministic=True))


def node_runs(node: onnx.NodeProto, feeds: dict[str, Any]) -> bool:
    """Whether onnxruntime runs the node on `feeds`; its outputs are float tensors."""
    graph = onnx.helper.make_graph(
        [node],
        "trial",
        [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in feeds.items()
        ],
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in node.output],
    )
    session = _session(_model(graph, {"": 23, node.domain: 1}).SerializeToString())
    if session is None:
        return False
    try:
        session.run(None, feeds)
    except Exception:  # whatever it says, the answer is no
        return False
    return True


def _has_body(node: ir.Node, version: int) -> bool:
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


def _model(graph: onnx.GraphProto, opsets: dict[str, int]) -> onnx.ModelProto:
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)


@functools.lru_cache(maxsize=512)
def _opens(model: bytes) -> bool:
    return _session(model) is not None


def _session(model: bytes) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:  # whatever it says, the answer is no
        return None
