"""Graphs within graphs, as protobufs."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

__all__ = ["graph_protos"]


def graph_protos(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """`graph` and every subgraph of its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from graph_protos(inner)
