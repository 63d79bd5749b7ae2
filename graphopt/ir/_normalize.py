"""Models as files spell them, brought to the one form that everything after loading expects."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from graphopt.errors import BadInput
from graphopt.ir._proto import without_weights
from graphopt.ir._walk import graph_protos

__all__ = ["declare_outputs", "normalize"]

_INITIALIZERS_APART = 4
"""The first IR version in which initializers need not be inputs (ONNX's IR.md)."""
_UNUSED_OPSET = 13
"""The opset of the default domain where a model imports none: no node is of it, and passes run from 13 on."""
_DEFAULT = ("", "ai.onnx")
_ONNXRUNTIMES_NORM = "SimplifiedLayerNormalization"
_NORM_OPSET = 23
"""The opset that brings RMSNormalization."""
_SAME_AS_NORM_OPSET = 21
"""The first opset between which and that one operators got types, and no meaning (ONNX's Changelog.md)."""
_LARGEST = 256 << 20
"""Bytes of a sparse weight once it is dense, which is held in memory. A judgement: a few bytes of a file
that nobody vouches for may ask for any size."""


def normalize(path: Path, proto: onnx.ModelProto) -> None:
    """Bring `proto`, read from `path`, to one form.

    Sparse weights become dense; initializers are no inputs any more, as they are before IR version 4; the
    default domain is imported, each domain once; sizes of -1 become unknown; onnxruntime's prepacked copies
    of weights go; norms that onnxruntime has in ONNX's domain, and ONNX does not, become ONNX's.
    Raises `BadInput` for sparse weights that are damaged or huge.
    """
    _make_dense(path, proto)
    _import_once(proto)
    _update_ir_version(proto)
    _drop_negative_sizes(proto)
    _drop_prepacked(proto)
    _name_norms(proto)


def _import_once(proto: onnx.ModelProto) -> None:
    """What is imported again at the same version, as `onnx.compose.merge_models` writes it, goes."""
    imports = {
        ("" if o.domain == "ai.onnx" else o.domain, o.version): o for o in reversed(proto.opset_import)
    }
    kept = [onnx.helper.make_opsetid(one.domain, one.version) for one in reversed(imports.values())]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)


def _update_ir_version(proto: onnx.ModelProto) -> None:
    """Before IR version 4, initializers are listed among the inputs and are constants all the same. A file
    whose operators are all of other domains need not import the default one, which passes will use.
    """
    if 0 < proto.ir_version < _INITIALIZERS_APART:
        proto.ir_version = _INITIALIZERS_APART
        weights = {tensor.name for tensor in proto.graph.initializer}
        kept = [value for value in proto.graph.input if value.name not in weights]
        del proto.graph.input[:]
        proto.graph.input.extend(kept)
    domains = {o.domain for o in proto.opset_import}
    nodes = [node for graph in graph_protos(proto.graph) for node in graph.node]
    if domains.isdisjoint(_DEFAULT) and nodes and not any(node.domain in _DEFAULT for node in nodes):
        proto.opset_import.append(onnx.helper.make_opsetid("", _UNUSED_OPSET))


def _drop_negative_sizes(proto: onnx.ModelProto) -> None:
    """Some exporters write -1 where a size varies; to onnxruntime, too, that is one nobody knows."""
    for graph in graph_protos(proto.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_value < 0:
                    dim.ClearField("dim_value")


def _drop_prepacked(proto: onnx.ModelProto) -> None:
    """Weights that onnxruntime stored a second time, as its kernels want them, are no part of the model."""
    for graph in graph_protos(proto.graph):
        for tensor in graph.initializer:
            kept = [e for e in tensor.external_data if not e.key.startswith("prepacked_")]
            if len(kept) < len(tensor.external_data):
                del tensor.external_data[:]
                tensor.external_data.extend(kept)


def _name_norms(proto: onnx.ModelProto) -> None:
    """SimplifiedLayerNormalization, which onnxruntime-genai's builder writes, is RMSNormalization.

    onnxruntime registers it in ONNX's own domain, where ONNX knows none of that name, and takes it at any
    opset. From 21 on the file is at opset 23 then, which brings no other operator another meaning.
    """
    opset = next((one for one in proto.opset_import if one.domain in _DEFAULT), None)
    nodes = [node for graph in graph_protos(proto.graph) for node in graph.node]
    norms = [node for node in nodes if node.domain in _DEFAULT and node.op_type == _ONNXRUNTIMES_NORM]
    if (
        not norms
        or opset is None
        or opset.version < _SAME_AS_NORM_OPSET
        or any(_is_used(node) for node in norms)
    ):
        return
    for node in norms:
        node.op_type = "RMSNormalization"
        del node.output[1:]
    opset.version = max(opset.version, _NORM_OPSET)


def _is_used(norm: onnx.NodeProto) -> bool:
    """Whether its second output, which RMSNormalization has not, is asked for."""
    return any(norm.output[1:])


def _make_dense(path: Path, proto: onnx.ModelProto) -> None:
    """Sparse weights become ordinary ones, as onnxruntime makes them when it loads them."""
    for graph in graph_protos(proto.graph):
        graph.initializer.extend(_dense(path, sparse) for sparse in graph.sparse_initializer)
        del graph.sparse_initializer[:]
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("sparse_tensor") and attribute.name == "sparse_value":
                    dense = _dense(path, attribute.sparse_tensor)
                    attribute.CopyFrom(onnx.helper.make_attribute("value", dense))


def _dense(path: Path, sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    name = sparse.values.name
    try:
        onnx.checker.check_sparse_tensor(sparse)
        values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    except Exception as error:  # of many kinds, for many kinds of damage
        raise BadInput(
            f"{path}: sparse weight {name!r} is damaged: {' '.join(str(error).split())}"
        ) from error
    size = prod(sparse.dims) * values.dtype.itemsize
    if size > _LARGEST:
        raise BadInput(
            f"{path}: sparse weight {name!r} takes {size:,} bytes as kernels want it, dense; "
            f"graphopt makes it so up to {_LARGEST:,}",
            hint="Store it as an ordinary weight.",
        )
    whole = np.zeros(prod(sparse.dims), values.dtype)
    whole[places if places.ndim == 1 else np.ravel_multi_index(tuple(places.T), tuple(sparse.dims))] = values
    return numpy_helper.from_array(whole.reshape(tuple(sparse.dims)), name)


def declare_outputs(path: Path, proto: onnx.ModelProto) -> None:
    """Give outputs that are declared without a type or shape those that onnx infers.

    An output may stay without a shape. Raises `BadInput` where one has no type.
    """
    lacking = [value for value in proto.graph.output if not _is_declared(value)]
    if not lacking:
        return
    inferred = {
        value.name: value for value in onnx.shape_inference.infer_shapes(without_weights(proto)).graph.output
    }
    for value in lacking:
        value.type.CopyFrom(inferred[value.name].type)
        if value.type.WhichOneof("value") is None:
            raise BadInput(
                f"{path}: output {value.name!r} has no type, and none can be inferred",
                hint="Export the model with the types of its outputs.",
            )


def _is_declared(value: onnx.ValueInfoProto) -> bool:
    which = value.type.WhichOneof("value")
    return which is not None and (which != "tensor_type" or value.type.tensor_type.HasField("shape"))
