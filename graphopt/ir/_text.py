"""Graphs as ONNX's own text, for golden tests and messages."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx.printer
import onnx_ir as ir

from graphopt.ir._expression import Unbound
from graphopt.ir._proto import ABSENT, from_proto, to_proto
from graphopt.ir._tensor import LazyTensor
from graphopt.ir._walk import graph_protos

__all__ = ["parse", "text"]

_SHOWN_BYTES = 64
"""Bytes of a weight that is printed with its elements: 8 int64, all of a shape. A judgement: golden files
are read."""


def parse(source: str) -> ir.Model:
    """A model from ONNX's textual syntax, initializers (`<float[2] w = {1, 2}>`) and subgraphs included.

    Nodes without a name are named after their first output. A weight written as `["location": "absent"]`, as
    `text` does for big ones, has no data.
    """
    proto = onnx.parser.parse_model(source)
    for graph in graph_protos(proto.graph):
        for node in graph.node:
            node.name = node.name or f"{node.output[0]}/{node.op_type}"
    model = from_proto(proto)
    for inner in (model.graph, *model.graph.subgraphs()):
        for name, value in inner.initializers.items():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and tensor.location == ABSENT:
                shape = tuple(tensor.shape.numpy())
                value.const_value = LazyTensor(Unbound(name, tensor.dtype, shape), name)
    return model


def text(model: ir.Model) -> str:
    """The model in ONNX's textual syntax, without node names, metadata and the shapes of inner values.

    Weights of more than 64 bytes are shown as `["location": "absent"]`; nothing is read from disk for them.
    """
    proto = to_proto(model, weights="inline", limit=_SHOWN_BYTES)
    del proto.metadata_props[:]
    proto.ClearField("producer_name")
    proto.ClearField("producer_version")
    for function in proto.functions:
        del function.metadata_props[:], function.value_info[:]
        _strip_nodes(function.node)
    for graph in graph_protos(proto.graph):
        del graph.value_info[:], graph.metadata_props[:]
        _strip_nodes(graph.node)
        for tensor in graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                del tensor.external_data[1:]
    return str(onnx.printer.to_text(proto))


def _strip_nodes(nodes: object) -> None:
    for node in nodes:  # type: ignore[attr-defined]
        node.ClearField("name")
        node.ClearField("doc_string")
        del node.metadata_props[:]
