"""Opening an ONNX file without trusting it and without reading its weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from graphopt.errors import BadInput
from graphopt.ir._admission import DAMAGED, admit, text_problem
from graphopt.ir._expression import FileRange
from graphopt.ir._normalize import declare_outputs, normalize
from graphopt.ir._proto import from_proto, to_proto
from graphopt.ir._tensor import LazyTensor
from graphopt.ir._walk import all_graphs

__all__ = ["inside_repository", "load_model"]

_LARGE = 1 << 16
"""Bytes from which a weight that is inside the file becomes an array that nobody can write to. A judgement:
below, it is cheap to look at its bytes again after each pass."""


def load_model(path: str | Path) -> ir.Model:
    """The model in the ONNX file at `path`, its external data bound lazily.

    Raises `BadInput`: no such file; not an ONNX protobuf; an unknown opset; a graph that onnx's own checker
    refuses; inline data of the wrong size; external data that is missing, too short, or
    outside the model's folder. Links within the folder or its Hub cache repository are followed.
    """
    path = Path(path)
    proto = _proto(path)
    try:
        normalize(path, proto)
        admit(path, proto)
        declare_outputs(path, proto)
        model = from_proto(proto)
        for owner, name, tensor in _tensors(model):
            if isinstance(tensor, ir.ExternalTensor):
                bound = _bind(tensor, path)
                if isinstance(owner, ir.Value):
                    owner.const_value = bound
                else:
                    owner.attributes[name] = ir.AttrTensor(name, bound)
            elif tensor.dtype != ir.DataType.STRING and len(tensor.tobytes()) != tensor.nbytes:
                raise ValueError(f"{name!r} does not hold the {tensor.nbytes} bytes that its shape needs")
            elif isinstance(owner, ir.Value) and _is_large(tensor):
                owner.const_value = ir.Tensor(tensor.numpy(), tensor.dtype, name=tensor.name)
        to_proto(model, weights="none")
    except BadInput:
        raise
    except Exception as error:  # onnx_ir raises many kinds, for many kinds of damage
        problem = text_problem(proto) or _innermost(error)
        raise BadInput(f"{path} is not a valid ONNX model: {problem}", hint=DAMAGED) from error
    return model


def _proto(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise BadInput(f"{path} does not exist or is not a file")
    if path.stat().st_size > onnx.checker.MAXIMUM_PROTOBUF:
        raise BadInput(f"{path} is larger than an ONNX model may be", hint=DAMAGED)
    try:
        proto = onnx.load_model(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise BadInput(f"{path} is not an ONNX model: {error}", hint=DAMAGED) from error
    except PermissionError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    if not proto.graph.output:
        raise BadInput(f"{path} is not an ONNX model: it has no outputs", hint=DAMAGED)
    return proto


def _tensors(model: ir.Model) -> Iterator[tuple[ir.Value | ir.Node, str, ir.TensorProtocol]]:
    """Every tensor of the model, with the value or the node that holds it."""
    for graph in all_graphs(model):
        if isinstance(graph, ir.Graph):
            for value in tuple(graph.initializers.values()):
                if value.const_value is not None:
                    yield value, value.name or "", value.const_value
        for node in graph:
            for name, attribute in tuple(node.attributes.items()):
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    yield node, name, attribute.as_tensor()


def _is_large(tensor: ir.TensorProtocol) -> bool:
    """Whether a weight is kept as an array that nobody can write to: it need not be looked at again."""
    return isinstance(tensor, ir.TensorProtoTensor) and tensor.nbytes > _LARGE and tensor.dtype.bitwidth >= 8


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def _bind(tensor: ir.ExternalTensor, model: Path) -> LazyTensor:
    where = f"{model}: weight {tensor.name!r}"
    location = os.fspath(tensor.location)
    parts = location.replace("\\", "/").split("/")
    if os.path.isabs(location) or ".." in parts or ":" in parts[0] or not parts[0]:
        raise BadInput(
            f"{where} asks for external data at {location!r}, outside the model's folder",
            hint="Only files beside the model are read. Save the model again with its data beside it.",
        )
    file = model.parent / location
    if "\0" in location or not os.path.lexists(file):
        raise BadInput(f"{where} needs external data file {location!r}, which is missing")
    resolved = inside_repository(file, model.parent)
    if not resolved.is_file():
        raise BadInput(f"{where} needs external data file {location!r}, which is missing or not a file")
    state = resolved.stat()
    offset = tensor.offset or 0
    length = tensor.nbytes if tensor.length is None else tensor.length
    shape = tuple(tensor.shape.numpy())
    if length != tensor.nbytes:
        raise BadInput(
            f"{where} declares {length} bytes of external data; "
            f"{tensor.dtype} of shape {list(shape)} takes {tensor.nbytes}"
        )
    if offset + length > state.st_size:
        raise BadInput(
            f"{where} needs bytes {offset}..{offset + length} of {location!r}, which has {state.st_size}: "
            "the file is truncated",
            hint="Download or export it again.",
        )
    expr = FileRange(resolved, offset, length, tensor.dtype, shape, state.st_mtime_ns)
    return LazyTensor(expr, name=tensor.name)


def inside_repository(file: Path, folder: Path) -> Path:
    """`file` with every link resolved, where that stays in `folder` or in the Hub cache repository around it.

    A Hub cache keeps `models--ORG--NAME/snapshots/REVISION/x` as a link to `../../blobs/DIGEST`. Raises
    `BadInput` for a link that leads elsewhere, nowhere or in a circle.
    """
    home = folder.resolve()
    try:
        resolved = file.resolve(strict=True)
    except FileNotFoundError as error:
        raise BadInput(f"{file} is missing, or is a link to a file that is") from error
    except (OSError, RuntimeError) as error:
        raise BadInput(f"{file} cannot be resolved: {error}") from error
    if resolved.is_relative_to(home) or any(resolved.is_relative_to(root) for root in _repositories(home)):
        return resolved
    raise BadInput(
        f"{file} is a link to {resolved}, outside the model's folder",
        hint="Only links within the same Hub cache repository are followed. Copy the file into the folder.",
    )


def _repositories(home: Path) -> Iterator[Path]:
    for parent in home.parents:
        if parent.name.startswith("models--") and (parent / "snapshots") in home.parents:
            yield parent
