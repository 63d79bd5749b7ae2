"""Which operators onnxruntime computes in integers of 8 bits: each is tried between the nodes that say so."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ._loaded import loaded_nodes

__all__ = ["computes_in_integers"]

_OPSET = 23
_STEP, _ZERO = np.float32(0.1), 3
"""Scale and zero point of all activations: any will do."""
_X, _SMALL = (1, 4, 8, 8), (1, 4)
"""Shapes of activations: images of four channels, which kernels need that work on four bytes at once."""


@functools.cache
def computes_in_integers(op_type: str) -> bool:
    """Whether a graph of the operator alone, its activations in integers, has no floats once it is loaded."""
    case = _CASES.get(op_type)
    return case is not None and all(node.kind == "integers" for node in loaded_nodes(_graph(op_type, *case)))


def _graph(op_type: str, shapes: Sequence[Sequence[int]], constants: Sequence[Any], attributes: Any) -> bytes:
    held = [
        numpy_helper.from_array(np.asarray(_STEP), "s"),
        numpy_helper.from_array(np.asarray(_ZERO, np.uint8), "z"),
    ]
    nodes, inputs = [], []
    axis = 1 if op_type == "MatMul" else 0
    for index, _ in enumerate(shapes):
        nodes.append(helper.make_node("DequantizeLinear", [f"x{index}", "s", "z"], [f"f{index}"]))
        inputs.append(f"f{index}")
    for index, array in enumerate(constants):
        name = f"c{index}"
        held.append(numpy_helper.from_array(array, name))
        if array.dtype in (np.int8, np.int32):
            step = _STEP if array.dtype == np.int8 else _STEP * _STEP
            held.append(numpy_helper.from_array(np.full(array.shape[axis], step, np.float32), f"{name}s"))
            held.append(numpy_helper.from_array(np.zeros(array.shape[axis], array.dtype), f"{name}z"))
            parameters = [name, f"{name}s", f"{name}z"]
            nodes.append(helper.make_node("DequantizeLinear", parameters, [f"{name}f"], axis=axis))
            name = f"{name}f"
        inputs.append(name if array.size else "")
    nodes.append(helper.make_node(op_type, inputs, ["f"], **attributes))
    nodes.append(helper.make_node("QuantizeLinear", ["f", "s", "z"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "trial",
        [helper.make_tensor_value_info(f"x{i}", TensorProto.UINT8, shape) for i, shape in enumerate(shapes)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    return bytes(model.SerializeToString())


def _integers(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


def _indices(*numbers: int) -> np.ndarray:
    return np.asarray(numbers, np.int64)


_Case = tuple[Sequence[Sequence[int]], Sequence[np.ndarray], dict[str, Any]]
_NOTHING = np.zeros(0, np.float32)
_CASES: dict[str, _Case] = {
    "Add": ([_X, _X], [], {}),
    "AveragePool": ([_X], [], {"kernel_shape": [2, 2]}),
    "Concat": ([_X, _X], [], {"axis": 1}),
    "Conv": ([_X], [_integers(4, 4, 3, 3), np.ones(4, np.int32)], {"pads": [1, 1, 1, 1]}),
    "DepthToSpace": ([_X], [], {"blocksize": 2}),
    "Flatten": ([_X], [], {}),
    "Gemm": ([_SMALL], [_integers(4, 4), np.ones(4, np.int32)], {"transB": 1}),
    "GlobalAveragePool": ([_X], [], {}),
    "LeakyRelu": ([_X], [], {}),
    "MatMul": ([_SMALL], [_integers(4, 4)], {}),
    "MaxPool": ([_X], [], {"kernel_shape": [2, 2]}),
    "Mul": ([_X, _X], [], {}),
    "Reshape": ([_X], [_indices(1, -1)], {}),
    "Resize": ([_X], [_NOTHING, np.asarray([1, 1, 2, 2], np.float32)], {"mode": "nearest"}),
    "Sigmoid": ([_X], [], {}),
    "Slice": ([_X], [_indices(0), _indices(2), _indices(1)], {}),
    "Split": ([_X], [_indices(4)], {"axis": 1}),
    "Squeeze": ([_X], [_indices(0)], {}),
    "Transpose": ([_X], [], {"perm": [0, 2, 3, 1]}),
    "Unsqueeze": ([_X], [_indices(0)], {}),
}
"""By operator: shapes of its activations, its other inputs, its attributes. What is not here is in floats."""
