"""Writing a model with its weights beside it, a tile at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from graphopt.ir._lazy import lazy, tiles

__all__ = ["save_model"]

_INLINE = 4096
_ALIGNMENT = 4096


def save_model(model: ir.Model, path: str | Path) -> None:
    """Write `path` and, for weights of 4 KiB and more, `path`.data.

    Memory stays at one tile; weights that share an identity are written once. Both files are synced to disk.
    `OSError` (a full disk) is the caller's to handle. `model` is left as it was.
    """
    path = Path(path)
    data = path.with_name(path.name + ".data")
    written: dict[object, tuple[int, int]] = {}
    swapped: list[tuple[ir.Value, ir.TensorProtocol]] = []
    try:
        with data.open("wb") as file:
            for graph in (model.graph, *model.graph.subgraphs()):
                for value in graph.initializers.values():
                    tensor = value.const_value
                    if tensor is None or tensor.dtype == ir.DataType.STRING:
                        continue
                    swapped.append((value, tensor))
                    value.const_value = _stored(value, tensor, file, written, data.name)
            file.flush()
            os.fsync(file.fileno())
        if not written:
            data.unlink()
        with path.open("wb") as out:
            out.write(ir.to_proto(model).SerializeToString())
            out.flush()
            os.fsync(out.fileno())
    finally:
        for value, tensor in swapped:
            value.const_value = tensor


def _stored(
    value: ir.Value, tensor: ir.TensorProtocol, file: BinaryIO, written: dict[object, tuple[int, int]], location: str
) -> ir.TensorProtocol:
    if tensor.nbytes < _INLINE:
        return ir.Tensor(np.asarray(tensor.numpy()), dtype=tensor.dtype, name=value.name)
    expr = lazy(tensor)
    key = expr.identity
    if key not in written:
        offset = -(-file.tell() // _ALIGNMENT) * _ALIGNMENT
        file.truncate(offset)
        file.seek(offset)
        for _, block in tiles(expr):
            file.write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
        written[key] = (offset, file.tell() - offset)
    offset, length = written[key]
    return ir.ExternalTensor(location, offset, length, tensor.dtype, shape=ir.Shape(tensor.shape), name=value.name or "")

