"""Writing a model with its weights beside it, a tile at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
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

__all__ = ["DataFiles", "data_file_bytes", "inside_bytes", "save_model"]

_EXTERNAL_FROM = 4096
"""Bytes from which a weight goes to the data file: less than a page would be mostly padding there."""
_DATA_FROM = 1 << 20
"""Bytes of such weights in all from which there is a data file: of less, padding and entries are a part that
counts, and nothing is gained by mapping."""
_ALIGNMENT = 4096
"""Where large weights begin in the data file: at whole pages, so that a runtime can map them alone."""
_PAGED_FROM = 1 << 16
"""Bytes from which a weight begins at a page: what is lost before it is then 3 % of it in the mean."""
_TOGETHER = 8 << 20
"""Bytes that are written at once: Linux keeps them in memory as large pages, which are read faster when they
are mapped (docs/decisions/kernels.md)."""
_LINE = 64
"""Where other weights begin: at whole cache lines, which is all that kernels ask of memory."""


@dataclass(frozen=True)
class DataFiles:
    """How files of weights are called, and how many bytes one may have.

    The first is called as the graph's file with `suffix` after it, the next ones with `suffix`_1, `suffix`_2.
    """

    suffix: str = ".data"
    limit: int | None = None

    def place(self, path: Path, index: int = 0) -> Path:
        """Where the data file `index` of the graph at `path` lies."""
        return path.with_name(f"{path.name}{self.suffix}{f'_{index}' if index else ''}")

    def existing(self, path: Path) -> list[Path]:
        """Those of the graph at `path` that are there, up to the first that is not."""
        indices = count() if self.limit is not None else range(1)
        return list(takewhile(Path.exists, (self.place(path, index) for index in indices)))


def save_model(model: ir.Model, path: str | Path, data: DataFiles = DataFiles()) -> None:
    """Write `path` and, where weights take 1 MiB, `path`.data for those of 4 KiB; `model` is left as it was.

    Memory stays at one tile. Weights that share their bytes are written once: where there are such, there is
    a data file, too. `data` says otherwise how data files are called, and from which size on there are
    several. All files are written under
    other names, synced to disk and renamed, so that an error leaves what was there before. Raises `OSError`
    (a full disk) for the caller to handle, `ValueError` for a weight without data, `BadInput` where a weight
    would be read from a file that is to be written, or is larger than such a file may be.
    """
    path = Path(path)
    before = data.existing(path)
    with swapped_weights(model) as held, ExitStack() as files:
        stored = [(v, t) for v, t in held.items() if t.dtype != ir.DataType.STRING]
        big = {v: t for v, t in stored if t.nbytes >= _EXTERNAL_FROM or not has_data(t)}
        for value, tensor in big.items():
            _refuse_unreadable(value, tensor, before)
        if not _needs_data_file(big.values()):
            big = {}
        for value, tensor in stored:
            if value not in big:
                array = np.asarray(tensor.numpy())
                value.const_value = ir.Tensor(array, dtype=tensor.dtype, name=value.name)
        graph_file = files.enter_context(_replacing(path))
        written: list[Path] = []

        def opened() -> BinaryIO:
            # Entered last, so renamed first: at no time does the graph name data that are not there.
            written.append(data.place(path, len(written)))
            return files.enter_context(_replacing(written[-1], _TOGETHER))

        if big:
            _write_weights(big.items(), opened, written, data.limit)
        graph_file.write(lean(maps_back(ir.to_proto(model))).SerializeToString())
        _sync(graph_file)
    for left in set(before) - set(written):
        left.unlink()


def _needs_data_file(weights: Collection[ir.TensorProtocol]) -> bool:
    """Whether they take much, or some are the same."""
    if sum(tensor.nbytes for tensor in weights) >= _DATA_FROM:
        return True
    return len({_content(lazy(tensor)) for tensor in weights}) < len(weights)


def _refuse_unreadable(value: ir.Value, tensor: ir.TensorProtocol, targets: Iterable[Path]) -> None:
    if not has_data(tensor):
        raise ValueError(f"weight {value.name!r} has no data")
    for leaf in lazy(tensor).leaves():
        for target in targets:
            if isinstance(leaf, FileRange) and leaf.path.samefile(target):
                raise BadInput(
                    f"{target} cannot be written: weight {value.name!r} is read from it",
                    hint="Save the model under another name or in another folder.",
                )


def _write_weights(
    weights: Iterable[tuple[ir.Value, ir.TensorProtocol]],
    opened: Callable[[], BinaryIO],
    places: Sequence[Path],
    limit: int | None,
) -> None:
    """Write `weights` into the file that `opened` opens, the last of `places`, and then a next."""
    file = opened()
    written: dict[object, tuple[str, int]] = {}
    for value, tensor in weights:
        expr = lazy(tensor)
        content = _content(expr)
        if content not in written:
            padding = _padding(file.tell(), tensor.nbytes)
            if limit is not None and file.tell() + padding + tensor.nbytes > limit:
                if tensor.nbytes > limit:
                    raise BadInput(
                        f"weight {value.name!r} takes {tensor.nbytes:,} bytes, "
                        f"and a file of weights may have {limit:,}"
                    )
                if file.tell():
                    file, padding = opened(), 0
            file.write(bytes(padding))
            written[content] = places[-1].name, file.tell()
            _write(expr, file)
        location, offset = written[content]
        value.const_value = ir.ExternalTensor(
            location,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=value.name or "",
        )


def _padding(at: int, size: int) -> int:
    """Bytes between what ends `at` and a weight of `size`."""
    return -at % (_ALIGNMENT if size >= _PAGED_FROM else _LINE)


def data_file_bytes(sizes: Iterable[int], *, shared: bool = False) -> int:
    """Bytes of the file that `save_model` writes for weights of these `sizes`, in their order; 0 for none.

    Weights that share their bytes are one of them; `shared` says whether there are such of 4 KiB. Where there
    are none, and all take less than 1 MiB, they are in the graph's file.
    """
    end = 0
    for size in _outside(sizes, shared):
        end += _padding(end, size) + size
    return end


def inside_bytes(sizes: Iterable[int], *, shared: bool = False) -> int:
    """Bytes of weights that `save_model` leaves in the graph's file; arguments as for `data_file_bytes`."""
    sizes = list(sizes)
    return sum(sizes) - sum(_outside(sizes, shared))


def _outside(sizes: Iterable[int], shared: bool) -> list[int]:
    large = [size for size in sizes if size >= _EXTERNAL_FROM]
    return large if shared or sum(large) >= _DATA_FROM else []


def _content(expr: Expr) -> object:
    """The same for weights whose bytes are: one identity whatever the shape, or one range of a file."""
    if isinstance(expr, FileRange):
        return ("file", expr.path, expr.stamp, expr.offset, expr.length)
    return simplified(Reshaped(expr, (prod(expr.shape),))).identity


def _write(expr: Expr, file: BinaryIO) -> None:
    for box in boxes(expr):
        file.write(payload(expr.read(box), expr.dtype).data)


@contextmanager
def _replacing(path: Path, together: int = -1) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, and disappears when it does not."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb", buffering=together) as file:
            yield file
            _sync(file)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
