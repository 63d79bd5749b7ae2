"""Graphs as ONNX's own text, for golden tests and messages."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir

from graphopt.ir._proto import to_proto

__all__ = ["parse", "text"]


def parse(source: str) -> ir.Model:
    """A model from ONNX's textual syntax; nodes without a name are named after their first output."""
    proto = onnx.parser.parse_model(source)
    for node in proto.graph.node:
        node.name = node.name or f"{node.output[0]}/{node.op_type}"
    return ir.from_proto(proto)


def text(model: ir.Model) -> str:
    """The graph in ONNX's textual syntax, weights of more than 16 elements without their content."""
    proto = to_proto(model, weights="inline", limit=16 * 8)
    del proto.metadata_props[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.name = ""
    del proto.graph.value_info[:]
    return onnx.printer.to_text(proto)
