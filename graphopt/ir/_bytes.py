"""Elements to bytes and back: ONNX's packing of small types, and boxes read from a file by position."""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.errors import BadInput

__all__ = ["Array", "Region", "byte_count", "full_region", "payload", "read_box", "unpack"]

Array = npt.NDArray[Any]
Region = tuple[slice, ...]

_STAGE = 1 << 20
"""Bytes of the buffer through which short runs are read: it should stay in a core's own cache. A
judgement."""
_WORTH_A_CALL = 32 << 10
"""Bytes of a run that is read by a call of its own. A judgement: a call costs about as much as copying some
kilobytes, and what lies between short runs is read for nothing."""


def byte_count(shape: tuple[int, ...], dtype: ir.DataType) -> int:
    """Bytes that ONNX stores for a tensor; those of less than a byte are packed, text does not count."""
    if dtype == ir.DataType.STRING:
        return 0
    count = 1
    for size in shape:
        count *= size
    return (count * dtype.bitwidth + 7) // 8


def full_region(shape: tuple[int, ...]) -> Region:
    """The region that covers all of `shape`."""
    return tuple(slice(0, size) for size in shape)


def payload(array: Array, dtype: ir.DataType) -> npt.NDArray[np.uint8]:
    """The bytes ONNX stores for `array`, flat: row-major, little-endian, 2- and 4-bit types packed."""
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if dtype.bitwidth >= 8:
        return raw
    per = _per_byte(dtype)
    padded = np.zeros((-(-raw.size // per), per), np.uint8)
    padded.reshape(-1)[: raw.size] = raw & ((1 << dtype.bitwidth) - 1)
    packed = padded[:, 0].copy()
    for index in range(1, per):
        packed |= padded[:, index] << (index * dtype.bitwidth)
    return packed


def unpack(packed: npt.NDArray[np.uint8], dtype: ir.DataType, count: int) -> Array:
    """The first `count` elements of a flat array of packed 2- or 4-bit values."""
    per = _per_byte(dtype)
    values = np.empty((packed.size, per), np.uint8)
    for index in range(per):
        values[:, index] = packed >> (index * dtype.bitwidth) & ((1 << dtype.bitwidth) - 1)
    return values.reshape(-1)[:count].view(dtype.numpy())


def _per_byte(dtype: ir.DataType) -> int:
    if 8 % dtype.bitwidth:
        raise ValueError(f"{dtype} does not divide a byte")
    return 8 // dtype.bitwidth


def read_box(
    path: Path, offset: int, shape: tuple[int, ...], dtype: ir.DataType, region: Region | None
) -> Array:
    """`region` of a row-major tensor that starts at byte `offset` of a file; None is all of it.

    Reads by position (a mapped page would count as memory), straight into the result where the wanted runs
    are long, through a buffer of about 1 MiB where they are short. `BadInput` where the file ends too early.
    """
    with path.open("rb", buffering=0) as file:
        if dtype.bitwidth < 8:
            return _read_packed(file, offset, shape, dtype, region)
        wanted = region if region is not None else full_region(shape)
        out = np.empty(tuple(s.stop - s.start for s in wanted), dtype.numpy())
        if out.size:
            _fill(file, offset, shape, wanted, out)
        return out


def _read_packed(
    file: FileIO, offset: int, shape: tuple[int, ...], dtype: ir.DataType, region: Region | None
) -> Array:
    if region is None or not shape:
        flat = np.empty(byte_count(shape, dtype), np.uint8)
        _fill_bytes(file, offset, flat)
        return unpack(flat, dtype, int(np.prod(shape, dtype=np.int64))).reshape(shape)
    per, row = _per_byte(dtype), int(np.prod(shape[1:], dtype=np.int64))
    first, last = region[0].start * row, region[0].stop * row
    flat = np.empty(-(-last // per) - first // per, np.uint8)
    _fill_bytes(file, offset + first // per, flat)
    skip = first % per
    rows = unpack(flat, dtype, skip + last - first)[skip:].reshape(-1, *shape[1:])
    return rows[(slice(None), *region[1:])]


def _fill(file: FileIO, offset: int, shape: tuple[int, ...], region: Region, out: Array) -> None:
    rest = shape[1:]
    if region[1:] == full_region(rest):
        row = out.itemsize * int(np.prod(rest, dtype=np.int64))
        start = region[0].start if region else 0
        _fill_bytes(file, offset + start * row, out.reshape(-1).view(np.uint8))
        return
    row = out.itemsize * int(np.prod(rest, dtype=np.int64))
    begin, end = region[0].start, region[0].stop
    if row > _STAGE or out[0].nbytes >= _WORTH_A_CALL:
        for index in range(begin, end):
            _fill(file, offset + index * row, rest, region[1:], out[index - begin])
        return
    step = _STAGE // row
    buffer = np.empty((min(step, end - begin), *rest), out.dtype)
    for index in range(begin, end, step):
        rows = buffer[: min(step, end - index)]
        _fill_bytes(file, offset + index * row, rows.reshape(-1).view(np.uint8))
        out[index - begin : index - begin + len(rows)] = rows[(slice(None), *region[1:])]


def _fill_bytes(file: FileIO, offset: int, out: npt.NDArray[np.uint8]) -> None:
    file.seek(offset)
    view = out.data
    done = 0
    while done < len(view):
        got = file.readinto(view[done:])
        if not got:
            raise BadInput(
                f"{file.name!s} ends before byte {offset + len(view)}: it was cut short while in use"
            )
        done += got
