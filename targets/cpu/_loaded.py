"""What onnxruntime makes of a graph: each node of it, and whether it computes in integers of 8 bits."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto

from graphopt.targets import LoadedKind, LoadedNode

__all__ = ["loaded_nodes"]

_ROUNDING = ("QuantizeLinear", "DynamicQuantizeLinear")
_INTEGER = (
    "ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat",
)  # fmt: skip
"""Kernels of integers whose names do not begin with QLinear."""
_SCALED = 8
"""Inputs of a QGemm that gives integers: without the scale of what comes out it gives floats."""
_BYTES = (TensorProto.UINT8, TensorProto.INT8)
_BLOCKED = "_nchwc"
"""How names of convolutions end that are computed in blocks of channels: before it is what they make."""
_SIZES = ("Shape", "Size")
_REAL = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def loaded_nodes(model: bytes | str) -> list[LoadedNode]:
    """The nodes that onnxruntime makes of a model, or of the file with this name, in their order."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loaded.onnx"
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return _nodes(onnx.load(path, load_external_data=False).graph)


def _nodes(graph: onnx.GraphProto) -> list[LoadedNode]:
    typed = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
    constants = {tensor.name for tensor in graph.initializer}
    integers = {value.name for value in graph.input if typed[value.name] in _BYTES}
    floats = {value.name for value in graph.input if typed[value.name] in _REAL} - constants
    found = []
    for node in graph.node:
        inputs = [name for name in node.input if name and name not in constants]
        kind, gives = _kind(node, inputs, integers, floats, [typed.get(name, 0) for name in node.output])
        if not inputs:
            constants.update(node.output)
        elif gives is not None:
            gives.update(node.output)
        name = node.name.removesuffix(_BLOCKED)
        found.append(LoadedNode(name, node.op_type, tuple(inputs), tuple(filter(None, node.output)), kind))
    return found


def _kind(
    node: onnx.NodeProto,
    inputs: Sequence[str],
    integers: set[str],
    floats: set[str],
    types: Collection[int],
) -> tuple[LoadedKind, set[str] | None]:
    """What kind of node it is, and to which values those that it makes belong."""
    if not inputs or node.op_type in _SIZES:
        return "other", None
    if node.op_type in _ROUNDING:
        return "rounds", integers
    if node.op_type == "Cast":
        to = next(attribute.i for attribute in node.attribute if attribute.name == "to")
        return ("floats", floats) if to in _REAL else ("other", None)
    if node.op_type == "DequantizeLinear":
        return "widens", floats
    if node.op_type == "QGemm":
        return "integers", integers if len(node.input) > _SCALED - 1 and node.input[_SCALED - 1] else floats
    if node.op_type in _INTEGER:
        return "integers", floats
    if node.op_type.startswith("QLinear") or not integers.isdisjoint(inputs):
        return "integers", integers
    if floats.isdisjoint(inputs) or any(kind and kind not in _REAL for kind in types):
        return "other", None
    return "floats", floats
