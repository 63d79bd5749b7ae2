"""Maps, which onnx_ir has no type for: here a map is a sequence of its values that says what its keys are."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from graphopt.ir._walk import graph_protos

__all__ = ["holds_map", "maps_back", "maps_out"]

_MARK = "graphopt.map:"


def holds_map(kind: ir.TypeProtocol | None) -> bool:
    """Whether a value of this type is a map, or made of maps as ZipMap's are."""
    while isinstance(kind, ir.SequenceType | ir.OptionalType):
        if (kind.denotation or "").startswith(_MARK):
            return True
        kind = kind.elem_type
    return False


def maps_out(proto: onnx.ModelProto) -> onnx.ModelProto:
    """`proto`, in it every map as a sequence that is marked."""
    for kind in _types(proto):
        while kind.WhichOneof("value") in ("sequence_type", "optional_type", "map_type"):
            if kind.HasField("map_type"):
                key, values = kind.map_type.key_type, onnx.TypeProto()
                values.CopyFrom(kind.map_type.value_type)
                kind.Clear()
                kind.denotation = f"{_MARK}{key}"
                kind.sequence_type.elem_type.CopyFrom(values)
            kind = getattr(kind, kind.WhichOneof("value")).elem_type
    return proto


def maps_back(proto: onnx.ModelProto) -> onnx.ModelProto:
    """`proto`, in it every sequence that is marked as the map that it stands for."""
    for kind in _types(proto):
        while (which := kind.WhichOneof("value")) in ("sequence_type", "optional_type"):
            inner = getattr(kind, which).elem_type
            if kind.denotation.startswith(_MARK):
                key, values = int(kind.denotation.removeprefix(_MARK)), onnx.TypeProto()
                values.CopyFrom(inner)
                kind.Clear()
                kind.map_type.key_type = key
                kind.map_type.value_type.CopyFrom(values)
                inner = kind.map_type.value_type
            kind = inner
    return proto


def _types(proto: onnx.ModelProto) -> Iterator[onnx.TypeProto]:
    for graph in graph_protos(proto.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield value.type
