"""A file to put big intermediate weights in, so that no pass has to hold them."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

import onnx_ir as ir

from graphopt.ir._bytes import Array, byte_count, payload
from graphopt.ir._expression import FileRange

__all__ = ["Scratch"]


class Scratch:
    """Append-only storage in a file of its own in `folder`, which the owner deletes. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        handle, name = tempfile.mkstemp(prefix="scratch-", suffix=".bin", dir=folder)
        with open(handle, "wb"):
            self._path = Path(name)
        self._end = 0
        self._mutex = threading.Lock()

    def write(self, tiles: Iterable[Array], dtype: ir.DataType, shape: tuple[int, ...]) -> FileRange:
        """Store `tiles`, consecutive rows of a tensor of `dtype` and `shape`, and describe where they lie.

        Tiles of a 2- or 4-bit dtype hold a multiple of four rows each, the last one excepted. Raises
        `ValueError` where the tiles do not add up to the shape, `OSError` where the disk is full.
        """
        length = byte_count(shape, dtype)
        with self._mutex:
            start, self._end = self._end, self._end + length
        done = 0
        with self._path.open("r+b") as file:
            file.seek(start)
            for tile in tiles:
                data = payload(tile, dtype)
                done += len(data)
                if done > length:
                    break
                file.write(data.data)
        if done != length:
            raise ValueError(f"{done} bytes written for {dtype} {list(shape)}, which takes {length}")
        return FileRange(self._path, start, length, dtype, shape)
