"""What a model file may hold: whatever onnx_ir would drop, repair in silence or stumble over is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]

from graphopt.errors import BadInput
from graphopt.ir._proto import checker_problem, without_weights
from graphopt.ir._walk import graph_protos

__all__ = ["DAMAGED", "admit", "text_problem"]

DAMAGED = "The file is damaged or of another kind. Download or export it again."

_WITHDRAWN = "ONNX has withdrawn that operator at this opset. Export the model at another one."
_HIGHEST_RANK = 64  # the most that a numpy array has
_MOST_NODES = 1_000_000
"""Nodes that calls of functions may become. A judgement: far more than any model has, and little enough to
be counted; functions that call each other twice on each level double with every one."""
_DIGITS = 19  # of a file offset, an int64


def admit(path: Path, proto: onnx.ModelProto) -> None:
    """Raise `BadInput` unless the model at `path` can be read as what it says. No weight is read."""
    _check_opsets(path, proto)
    for graph in _graphs(proto):
        problem = next(_graph_problems(graph), None)
        if problem is not None:
            raise BadInput(f"{path} is not a valid ONNX model: {problem}", hint=DAMAGED)
    for tensor in _tensors(proto):
        problem = next(_tensor_problems(tensor), None)
        if problem is not None:
            raise BadInput(f"{path}: weight {tensor.name!r} {problem}", hint=DAMAGED)
    for value in proto.graph.input:
        which = value.type.WhichOneof("value")
        if which is None or (which == "tensor_type" and not value.type.tensor_type.HasField("shape")):
            raise BadInput(
                f"{path}: input {value.name!r} is declared without a {'shape' if which else 'type'}",
                hint="Export the model with the shapes of its inputs; a size that varies may be a name.",
            )
    problem = next(_reference_problems(proto), None) or next(_function_problems(proto), None)
    problem = problem or checker_problem(without_weights(proto))
    if problem is not None:
        raise BadInput(f"{path} is not a valid ONNX model: {problem}", hint=_advice(problem))


def _advice(problem: str) -> str:
    return _WITHDRAWN if "is deprecated in domain_version" in problem else DAMAGED


def _check_opsets(path: Path, proto: onnx.ModelProto) -> None:
    twice = _repeated("" if o.domain == "ai.onnx" else o.domain for o in proto.opset_import)
    if twice is not None:
        raise BadInput(f"{path} imports domain {twice or 'ai.onnx'!r} twice", hint=DAMAGED)
    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    newest = onnx.defs.onnx_opset_version()
    if version is None:
        raise BadInput(f"{path} imports no opset of the default domain", hint=DAMAGED)
    if version < 1:
        raise BadInput(f"{path} is at opset {version}, which does not exist", hint=DAMAGED)
    if version > newest:
        raise BadInput(
            f"{path} is at opset {version}; the installed onnx knows opsets up to {newest}",
            hint="Upgrade graphopt, or export the model at an older opset.",
        )


def _graph_problems(graph: onnx.GraphProto) -> Iterator[str]:
    for what, items in (("weight", graph.initializer), ("output", graph.output)):
        twice = _repeated(item.name for item in items)
        if twice is not None:
            yield f"two {what}s of a graph are called {twice!r}"
        if any(not item.name for item in items):
            yield f"{what} without a name"
    twice = _repeated(node.name for node in graph.node if node.name)
    if twice is not None:
        yield f"two nodes of a graph are called {twice!r}"
    for node in graph.node:
        twice = _repeated(attribute.name for attribute in node.attribute)
        if twice is not None:
            yield f"{_label(node)} has attribute {twice!r} twice"
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.attribute) != 1:
            yield f"{_label(node)} has {len(node.attribute)} values"
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.UNDEFINED:
                yield f"{_label(node)} has attribute {attribute.name!r} of no known type"
            if any(tensor.external_data for tensor in attribute.tensors):
                yield f"external data in a list of tensors, attribute {attribute.name!r}"


def _reference_problems(proto: onnx.ModelProto) -> Iterator[str]:
    for graph in graph_protos(proto.graph):
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.ref_attr_name:
                    yield f"{_label(node)} refers to attribute {attribute.ref_attr_name!r} of no function"


def _tensor_problems(tensor: onnx.TensorProto) -> Iterator[str]:
    if min(tensor.dims, default=0) < 0:
        yield f"has the impossible shape {_shortened(tensor.dims)}"
    if len(tensor.dims) > _HIGHEST_RANK:
        yield f"has {len(tensor.dims)} dimensions; at most {_HIGHEST_RANK} can be read"
    if tensor.HasField("segment"):
        yield "is a segment of a tensor, which graphopt does not read"
    if tensor.data_location == onnx.TensorProto.EXTERNAL and tensor.data_type == onnx.TensorProto.STRING:
        yield "is text in external data, which ONNX does not allow"
    if _repeated(entry.key for entry in tensor.external_data) is not None:
        yield "says twice where its external data is"
    for entry in tensor.external_data:
        if entry.key in ("offset", "length") and not _is_offset(entry.value):
            yield f"has external data at {entry.key} {entry.value[:40]!r}"


def _is_offset(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def _function_problems(proto: onnx.ModelProto) -> Iterator[str]:
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    if len(functions) < len(proto.functions):
        name = _repeated(f"{f.domain}::{f.name}" for f in proto.functions)
        yield f"two functions are called {name!r}"
    sizes: dict[tuple[str, str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto], callers: tuple[tuple[str, str, str], ...]) -> int:
        """Nodes that are left where every call is replaced by what it calls; recursion counts as endless."""
        total = 0
        for graph in graph_protos(onnx.GraphProto(node=nodes)):
            for node in graph.node:
                key = (node.domain, node.op_type, node.overload)
                total += 1
                if key in callers:
                    return _MOST_NODES + 1
                if key in functions:
                    if key not in sizes:
                        sizes[key] = size(functions[key].node, (*callers, key))
                    total += sizes[key]
        return total

    if functions and size(proto.graph.node, ()) > _MOST_NODES:
        yield f"its functions call each other without end, or make more than {_MOST_NODES:,} nodes"


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    yield from graph_protos(proto.graph)
    for function in proto.functions:
        yield from graph_protos(onnx.GraphProto(node=function.node))


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(proto):
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _label(node: onnx.NodeProto) -> str:
    return f"node {node.name or (node.output[0] if node.output else '')!r} ({node.op_type})"


def _repeated(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _shortened(dims: Iterable[int]) -> str:
    shown = list(dims)
    return str(shown) if len(shown) <= 8 else f"[{', '.join(map(str, shown[:8]))}, …]"


def text_problem(message: Message, where: str = "") -> str | None:
    """Where a name or text in `message` is not UTF-8; None where all are."""
    for field, value in message.ListFields():
        place = f"{where}.{field.name}".lstrip(".")
        values: Any = value if field.is_repeated else [value]
        if field.type == field.TYPE_STRING:
            bad = next((v for v in values if isinstance(v, bytes)), None)
            if bad is not None:
                return f"{place} is not UTF-8 text: {bad[:40]!r}"
        elif field.type == field.TYPE_MESSAGE:
            for index, inner in enumerate(values):
                found = text_problem(inner, f"{place}[{index}]" if field.is_repeated else place)
                if found is not None:
                    return found
    return None
