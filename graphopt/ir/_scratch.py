"""A file to put big intermediate weights in, so that no pass has to hold them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphopt.ir._lazy import FileRange

__all__ = ["Scratch"]


class Scratch:
    """Append-only storage in one file of `folder`, which the owner deletes. Safe to write from several threads."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "scratch.bin"
        self._end = 0
        self._lock = threading.Lock()
        self._path.touch()

    def write(self, tiles: Iterable[np.ndarray], dtype: ir.DataType, shape: tuple[int, ...]) -> FileRange:
        """Store the concatenated bytes of `tiles` (row-major, of `dtype` and `shape` together) and describe them."""
        length = (int(np.prod(shape, dtype=np.int64)) * dtype.bitwidth + 7) // 8
        with self._lock:
            start, self._end = self._end, self._end + length
        with self._path.open("r+b", buffering=0) as file:
            file.seek(start)
            for tile in tiles:
                file.write(np.ascontiguousarray(tile).reshape(-1).view(np.uint8).data)
            if file.tell() - start != length:
                raise ValueError(f"{file.tell() - start} bytes written for {dtype} {shape}")
        return FileRange(self._path, start, length, dtype, shape)
