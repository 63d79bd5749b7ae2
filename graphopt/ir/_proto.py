"""Models as protobufs, with or without their weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.ir._lazy import has_data

__all__ = ["to_proto"]


def to_proto(model: ir.Model, *, weights: str = "inline", limit: int = 1 << 31) -> onnx.ModelProto:
    """The model as a protobuf.

    `weights`: "inline" holds every initializer of at most `limit` bytes; "none" only those of at most 1 KiB.
    The others are described as external data that does not exist: names, shapes and dtypes stay.
    """
    if weights == "none":
        limit = 1024
    swapped: list[tuple[ir.Value, ir.TensorProtocol]] = []
    try:
        for graph in (model.graph, *model.graph.subgraphs()):
            for value in graph.initializers.values():
                tensor = value.const_value
                if tensor is not None and (tensor.nbytes > limit or not has_data(tensor)):
                    swapped.append((value, tensor))
                    value.const_value = ir.ExternalTensor(
                        "absent", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape), name=value.name or ""
                    )
                elif tensor is not None and not isinstance(tensor, ir.Tensor | ir.TensorProtoTensor | ir.StringTensor):
                    swapped.append((value, tensor))
                    array = np.asarray(tensor.numpy())
                    value.const_value = ir.Tensor(array, dtype=tensor.dtype, name=value.name)
        return ir.to_proto(model)
    finally:
        for value, tensor in swapped:
            value.const_value = tensor
