"""Writing a model with its weights beside it, a tile at a time."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.ir._bytes import payload
from graphopt.ir._expression import Expr, FileRange
from graphopt.ir._lean import lean
from graphopt.ir._maps import maps_back
from graphopt.ir._operations import Reshaped
from graphopt.ir._proto import swapped_weights
from graphopt.ir._simplify import simplified
from graphopt.ir._tensor import boxes, has_data, lazy

__all__ = ["save_model"]

_EXTERNAL_FROM = 4096
"""Bytes from which a weight goes to the data file: less than a page would be mostly padding there."""
_DATA_FROM = 1 << 20
"""Bytes of such weights in all from which there is a data file: of less, padding and entries are a part that
counts, and nothing is gained by mapping."""
_ALIGNMENT = 4096
"""Where large weights begin in the data file: at whole pages, so that a runtime can map them alone."""
_PAGED_FROM = 1 << 16
"""Bytes from which a weight begins at a page: what is lost before it is then 3 % of it in the mean."""
_LINE = 64
"""Where other weights begin: at whole cache lines, which is all that kernels ask of memory."""


def save_model(model: ir.Model, path: str | Path) -> None:
    """Write `path` and, where weights take 1 MiB, `path`.data for those of 4 KiB; `model` is left as it was.

    Memory stays at one tile. Weights that share their bytes are written once: where there are such, there is
    a data file, too. Both files are written under
    other names, synced to disk and renamed, so that an error leaves what was there before. Raises `OSError`
    (a full disk) for the caller to handle, `ValueError` for a weight without data, `BadInput` where a weight
    would be read from the file that is to be written.
    """
    path = Path(path)
    data = path.with_name(path.name + ".data")
    with swapped_weights(model) as held, ExitStack() as files:
        stored = [(v, t) for v, t in held.items() if t.dtype != ir.DataType.STRING]
        big = {v: t for v, t in stored if t.nbytes >= _EXTERNAL_FROM or not has_data(t)}
        for value, tensor in big.items():
            _refuse_unreadable(value, tensor, data)
        if not _needs_data_file(big.values()):
            big = {}
        for value, tensor in stored:
            if value not in big:
                array = np.asarray(tensor.numpy())
                value.const_value = ir.Tensor(array, dtype=tensor.dtype, name=value.name)
        graph_file = files.enter_context(_replacing(path))
        if big:
            # Entered last, so renamed first: at no time does the graph name data that are not there.
            data_file = files.enter_context(_replacing(data))
            _write_weights(big.items(), data_file, data.name)
        graph_file.write(lean(maps_back(ir.to_proto(model))).SerializeToString())
        _sync(graph_file)
    if not big:
        data.unlink(missing_ok=True)


def _needs_data_file(weights: Collection[ir.TensorProtocol]) -> bool:
    """Whether they take much, or some are the same."""
    if sum(tensor.nbytes for tensor in weights) >= _DATA_FROM:
        return True
    return len({_content(lazy(tensor)) for tensor in weights}) < len(weights)


def _refuse_unreadable(value: ir.Value, tensor: ir.TensorProtocol, target: Path) -> None:
    if not has_data(tensor):
        raise ValueError(f"weight {value.name!r} has no data")
    for leaf in lazy(tensor).leaves():
        if isinstance(leaf, FileRange) and target.exists() and leaf.path.samefile(target):
            raise BadInput(
                f"{target} cannot be written: weight {value.name!r} is read from it",
                hint="Save the model under another name or in another folder.",
            )


def _write_weights(
    weights: Iterable[tuple[ir.Value, ir.TensorProtocol]], file: BinaryIO, location: str
) -> None:
    written: dict[object, int] = {}
    for value, tensor in weights:
        expr = lazy(tensor)
        content = _content(expr)
        if content not in written:
            file.write(bytes(-file.tell() % (_ALIGNMENT if tensor.nbytes >= _PAGED_FROM else _LINE)))
            written[content] = file.tell()
            _write(expr, file)
        value.const_value = ir.ExternalTensor(
            location,
            written[content],
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=value.name or "",
        )


def _content(expr: Expr) -> object:
    """The same for weights whose bytes are: one identity whatever the shape, or one range of a file."""
    if isinstance(expr, FileRange):
        return ("file", expr.path, expr.stamp, expr.offset, expr.length)
    return simplified(Reshaped(expr, (prod(expr.shape),))).identity


def _write(expr: Expr, file: BinaryIO) -> None:
    for box in boxes(expr):
        file.write(payload(expr.read(box), expr.dtype).data)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, and disappears when it does not."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            _sync(file)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
