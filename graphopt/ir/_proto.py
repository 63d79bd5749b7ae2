"""Models as protobufs, with or without their weights, and what onnx's own checker says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.ir._maps import maps_back, maps_out
from graphopt.ir._tensor import has_data
from graphopt.ir._walk import all_graphs, graph_protos

__all__ = [
    "ABSENT",
    "attribute_proto",
    "checker_problem",
    "checker_problems",
    "from_proto",
    "restore_weights",
    "swapped_weights",
    "to_proto",
    "without_weights",
]

_SMALL = 1024
"""Bytes of a weight that stays where weights are left out. Axes, shapes and scalars, which shape inference
reads, are smaller; what a model learned is larger."""
_INLINE = 2 * _SMALL
"""The same for a serialized tensor, whose name, dimensions and varints come on top."""
ABSENT = "absent"


@contextmanager
def swapped_weights(model: ir.Model) -> Iterator[dict[ir.Value, ir.TensorProtocol]]:
    """Every initializer with its tensor; what the block assigns to `const_value` is undone at its end."""
    held: dict[ir.Value, ir.TensorProtocol] = {}
    for graph in all_graphs(model):
        if isinstance(graph, ir.Graph):
            for value in graph.initializers.values():
                if value.const_value is not None:
                    held[value] = value.const_value
    names = [tensor.name for tensor in held.values()]
    try:
        yield held
    finally:
        for (value, tensor), name in zip(held.items(), names, strict=True):
            value.const_value = tensor
            tensor.name = name


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """`onnx_ir.from_proto`, for models with maps too; `proto` is changed."""
    model: ir.Model = ir.from_proto(maps_out(proto))
    return model


def to_proto(
    model: ir.Model, *, weights: Literal["inline", "none"] = "inline", limit: int | None = None
) -> onnx.ModelProto:
    """The model as a protobuf; the model is left as it was.

    `weights`: "inline" holds every initializer, "none" only those of at most 1 KiB (axes, shapes and scalars,
    which shape inference needs); `limit` sets another number of bytes. The others are described as external
    data that does not exist: names, shapes and dtypes stay, and `restore_weights` knows them again. So is a
    weight without data in either case.
    """
    if limit is None:
        limit = _SMALL if weights == "none" else onnx.checker.MAXIMUM_PROTOBUF
    with swapped_weights(model) as held:
        for number, (value, tensor) in enumerate(held.items()):
            if tensor.dtype == ir.DataType.STRING:
                continue
            if tensor.nbytes > limit or not has_data(tensor):
                shape = ir.Shape(tensor.shape.numpy())
                value.const_value = ir.ExternalTensor(
                    ABSENT, number, tensor.nbytes, tensor.dtype, shape=shape, name=value.name or ""
                )
            elif isinstance(tensor, ir.ExternalTensor):
                value.const_value = ir.Tensor(np.asarray(tensor.numpy()), dtype=tensor.dtype, name=value.name)
        return maps_back(ir.serde.serialize_model(model))


def attribute_proto(attribute: ir.Attr) -> onnx.AttributeProto:
    """The attribute as a protobuf.

    As `onnx_ir.to_proto` makes it, which first asks at some length what it was given.
    """
    if attribute.is_ref():
        return ir.serde.serialize_reference_attribute(attribute)
    return ir.serde.serialize_attribute(attribute)


def restore_weights(bare: ir.Model, source: ir.Model) -> None:
    """Give `bare` the weights that `to_proto(source, weights="none")` left out, in subgraphs too.

    `bare` is what has become of that protobuf, whatever its weights are called now; `source` is as it was.
    """
    with swapped_weights(source) as held:
        tensors = list(held.values())
    for graph in all_graphs(bare):
        for value in graph.initializers.values() if isinstance(graph, ir.Graph) else ():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and tensor.location == ABSENT:
                value.const_value = tensors[tensor.offset or 0]


def checker_problems(model: ir.Model) -> list[str]:
    """What onnx.checker finds in the model without its weights: at most one problem, or none.

    Operators of domains it does not know pass.
    """
    problem = checker_problem(without_weights(to_proto(model, weights="none")))
    return [] if problem is None else [problem]


def checker_problem(proto: onnx.ModelProto) -> str | None:
    """What onnx.checker says of a model, on one line; None where it is content.

    That an output has no declared type or shape is no fault: onnxruntime infers them.
    """
    declared = onnx.ModelProto()
    declared.CopyFrom(proto)
    for value in declared.graph.output:
        if value.type.WhichOneof("value") in (None, "tensor_type"):
            value.type.tensor_type.elem_type = value.type.tensor_type.elem_type or onnx.TensorProto.FLOAT
            value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(declared)
    except (onnx.checker.ValidationError, ValueError) as error:
        return f"onnx.checker: {' '.join(str(error).split())}"
    return None


def without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose weights of more than 1 KiB, and those in files, are inputs of the whole model instead.

    Such an input is visible wherever the weight was, and has no data to check. In attributes, such tensors
    become empty.
    """
    bare = onnx.ModelProto(
        ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions
    )
    bare.graph.name = proto.graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(bare.graph, field).extend(getattr(proto.graph, field))
    declared = {value.name for value in proto.graph.input}
    bare.graph.initializer.extend(_moved(proto.graph.initializer, bare.graph, declared))
    for graph in graph_protos(bare.graph):
        kept = _moved(graph.initializer, bare.graph, declared)
        del graph.initializer[:]
        graph.initializer.extend(kept)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t") and not _is_small(attribute.t):
                    attribute.t.CopyFrom(onnx.TensorProto(data_type=attribute.t.data_type, dims=[0]))
    return bare


def _moved(
    tensors: Iterable[onnx.TensorProto], main: onnx.GraphProto, declared: set[str]
) -> list[onnx.TensorProto]:
    """The small ones of `tensors`; the others become inputs of `main` that are not `declared` yet."""
    kept = []
    for tensor in tensors:
        if _is_small(tensor):
            kept.append(tensor)
        elif tensor.name not in declared:
            declared.add(tensor.name)
            main.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return kept


def _is_small(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.ByteSize() <= _INLINE
