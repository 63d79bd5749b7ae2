"""A model as files: its graph without weights as a protobuf, and where its weights lie as JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.cache._expressions import decoded_expr, encoded_expr
from graphopt.ir import InMemory, LazyTensor, all_graphs, from_proto, lazy, payload, to_proto

__all__ = ["ARRAYS", "GRAPH", "ModelWriter", "read_model"]

GRAPH = "model.pb"
ARRAYS = "arrays.bin"
_INLINE = 1024
"""Bytes up to which a weight stays in the protobuf, so that axes and shapes need no file of their own."""


class ModelWriter:
    """Writes a model into `folder`; afterwards `scratch` and `sources` are the files its weights lie in.

    Those below `spill` belong to the run that made the model, so the entry needs its own links to them:
    `scratch` maps them to their names in the entry and the bytes that are needed. `sources` are all others,
    with the stamps of their ranges.
    """

    def __init__(self, folder: Path, spill: Path) -> None:
        self.scratch: dict[Path, tuple[str, int]] = {}
        self.sources: dict[Path, int] = {}
        self._folder, self._spill = folder, spill
        self._arrays: dict[object, int] = {}
        self._stream: BinaryIO | None = None

    def write(self, model: ir.Model) -> dict[str, Any]:
        """Write the graph and the arrays that are held in memory; returns the rest of the model as JSON."""
        with (self._folder / ARRAYS).open("wb") as self._stream:
            tensors: dict[int, int] = {}
            forms: list[Any] = []

            def number(tensor: ir.TensorProtocol) -> int:
                if id(tensor) not in tensors:
                    tensors[id(tensor)] = len(forms)
                    forms.append([isinstance(tensor, LazyTensor), encoded_expr(lazy(tensor), self)])
                return tensors[id(tensor)]

            weights = [
                [
                    index,
                    value.name,
                    None if _stays(value.const_value) else number(value.const_value),
                    value.type is not None,
                    value.shape is not None,
                ]
                for index, graph in enumerate(all_graphs(model))
                if isinstance(graph, ir.Graph)
                for value in graph.initializers.values()
                if value.const_value is not None
            ]
            attributes = [
                [index, place, name, number(attribute.as_tensor())]
                for index, place, _, name, attribute in _lazy_attributes(model)
            ]
        with _without_attributes(model):
            proto = to_proto(model, weights="none", limit=_INLINE)
        (self._folder / GRAPH).write_bytes(proto.SerializeToString(deterministic=True))
        names = [_given_names(graph) for graph in all_graphs(model)]
        return {"tensors": forms, "weights": weights, "attributes": attributes, "names": names}

    def file(self, path: Path, end: int, stamp: int) -> list[Any]:
        if not path.is_relative_to(self._spill):
            self.sources[path] = stamp
            return ["source", str(path)]
        name, known = self.scratch.get(path, (f"weights-{len(self.scratch)}.bin", 0))
        self.scratch[path] = (name, max(known, end))
        return ["scratch", name]

    def held(self, array: InMemory) -> int:
        assert self._stream is not None
        if array.identity not in self._arrays:
            self._arrays[array.identity] = self._stream.tell()
            self._stream.write(payload(array.read(), array.dtype).data)
        return self._arrays[array.identity]


def read_model(folder: Path, graph: bytes, form: Mapping[str, Any], place: Callable[[str], Path]) -> ir.Model:
    """The model that was written into `folder`; `place` says where a scratch file of it lies now."""

    def file(form: list[Any]) -> Path:
        return Path(form[1]) if form[0] == "source" else place(form[1])

    tensors: list[ir.TensorProtocol] = []
    for is_lazy, encoded in form["tensors"]:
        expr = decoded_expr(encoded, file, folder / ARRAYS)
        tensors.append(_held(expr) if isinstance(expr, InMemory) and not is_lazy else LazyTensor(expr))
    model: ir.Model = from_proto(onnx.ModelProto.FromString(graph))
    graphs = list(all_graphs(model))
    for index, name, number, typed, shaped in form["weights"]:
        value = graphs[index].initializers[name]
        if number is not None:
            value.const_value = tensors[number]
        value.type = value.type if typed else None
        value.shape = value.shape if shaped else None
    for index, position, name, number in form["attributes"]:
        graphs[index][position].attributes[name] = ir.AttrTensor(name, tensors[number])
    for inner, names in zip(graphs, form["names"], strict=True):
        _reserve_names(inner, *names)
    return model


def _stays(tensor: ir.TensorProtocol) -> bool:
    """Whether the protobuf holds the tensor just as it was."""
    is_proto = isinstance(tensor, ir.serde.TensorProtoTensor)
    return tensor.dtype == ir.DataType.STRING or (is_proto and tensor.nbytes <= _INLINE)


def _held(expr: InMemory) -> ir.TensorProtocol:
    return ir.Tensor(expr.read(), dtype=expr.dtype)


def _lazy_attributes(model: ir.Model) -> Iterator[tuple[int, int, ir.Node, str, ir.Attr]]:
    for index, graph in enumerate(all_graphs(model)):
        for place, node in enumerate(graph):
            for name, attribute in node.attributes.items():
                if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, LazyTensor):
                    yield index, place, node, name, attribute


@contextlib.contextmanager
def _without_attributes(model: ir.Model) -> Iterator[None]:
    """Within the block an empty tensor stands for each lazy one of an attribute."""
    held = list(_lazy_attributes(model))
    for _, _, node, name, _ in held:
        node.attributes[name] = ir.AttrTensor(name, ir.tensor(np.zeros(0, np.uint8)))
    try:
        yield
    finally:
        for _, _, node, name, attribute in held:
            node.attributes[name] = attribute


def _given_names(graph: ir.Graph | ir.Function) -> list[Any]:
    """What decides the names of nodes and values to come: onnx_ir counts, and uses no name twice."""
    names = _authority(graph)
    nodes = {node.name for node in graph}
    values = {value.name for node in graph for value in node.outputs}
    return [
        names._value_counter,
        names._node_counter,
        sorted(names._value_names - values),
        sorted(names._node_names - nodes),
    ]


def _reserve_names(
    graph: ir.Graph | ir.Function, values: int, nodes: int, value_names: list[str], node_names: list[str]
) -> None:
    names = _authority(graph)
    names._value_counter, names._node_counter = values, nodes
    names._value_names.update(value_names)
    names._node_names.update(node_names)


def _authority(graph: ir.Graph | ir.Function) -> Any:
    return (graph if isinstance(graph, ir.Graph) else graph.graph)._name_authority
