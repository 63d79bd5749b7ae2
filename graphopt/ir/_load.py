"""Opening an ONNX file without trusting it and without reading its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from graphopt.errors import BadInput
from graphopt.ir._lazy import FileRange, LazyTensor

__all__ = ["inside_repository", "load_model"]

OLDEST_OPSET = 13


def load_model(path: str | Path) -> ir.Model:
    """The model in the ONNX file at `path`, its external data bound lazily.

    Raises `BadInput`: no such file, not an ONNX protobuf, an opset below 13, or external data that is missing,
    too short, or outside the model's folder.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path} does not exist or is not a file")
    try:
        proto = onnx.load_model(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise BadInput(f"{path} is not an ONNX model: {error}", hint="The file is damaged or of another kind.") from error
    if not proto.graph.node and not proto.graph.output:
        raise BadInput(f"{path} is not an ONNX model: it has no graph")
    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    if version is None or version < OLDEST_OPSET:
        raise BadInput(
            f"{path} is at opset {version}; graphopt reads opset {OLDEST_OPSET} and up",
            hint="Export it again at a newer opset, or convert it with onnx.version_converter.",
        )
    try:
        model = ir.from_proto(proto)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} is not a valid ONNX model: {error}") from error
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = _bind(value.const_value, path)
    return model


def _bind(tensor: ir.ExternalTensor, model: Path) -> LazyTensor:
    location = Path(tensor.location)
    where = f"{model}: weight {tensor.name!r}"
    if location.is_absolute() or ".." in location.parts:
        raise BadInput(
            f"{where} asks for external data at {str(location)!r}, outside the model's folder",
            hint="Only files beside the model are read. Save the model again with its data beside it.",
        )
    file = model.parent / location
    if not file.exists():
        raise BadInput(f"{where} needs external data file {str(location)!r}, which is missing")
    resolved = inside_repository(file, model.parent)
    offset, length = tensor.offset or 0, tensor.length if tensor.length is not None else tensor.nbytes
    if length != tensor.nbytes:
        raise BadInput(f"{where} declares {length} bytes of external data, its shape and dtype need {tensor.nbytes}")
    if offset < 0 or offset + length > resolved.stat().st_size:
        raise BadInput(
            f"{where} needs bytes {offset}..{offset + length} of {str(location)!r}, "
            f"which has {resolved.stat().st_size}: the file is truncated"
        )
    shape = tuple(int(d) for d in tensor.shape)
    return LazyTensor(FileRange(resolved, offset, length, tensor.dtype, shape), name=tensor.name)


def inside_repository(file: Path, folder: Path) -> Path:
    """`file` with links resolved, if it stays in `folder` or in the Hub cache repository that holds it; else `BadInput`."""
    resolved, home = file.resolve(), folder.resolve()
    if resolved.is_relative_to(home):
        return resolved
    for root in _repositories(home):
        if resolved.is_relative_to(root):
            return resolved
    raise BadInput(
        f"{file} is a link to {resolved}, outside the model's folder",
        hint="Only links within the same Hub cache repository are followed. Copy the file into the folder.",
    )


def _repositories(home: Path) -> Iterator[Path]:
    for parent in home.parents:
        if parent.name.startswith("models--") and (parent / "snapshots") in (home, *home.parents):
            yield parent
