"""Arrays of values by call, on disk where they would take too much memory."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = ["Front"]


class Front:
    """What values are in each call: at most `memory` bytes are held, the rest lies in files in `folder`.

    The files go with the front, and each as soon as its value is left out.
    """

    def __init__(self, folder: Path | None, memory: int) -> None:
        self._folder, self._free = folder, memory
        self._arrays: dict[ir.Value, list[Any]] = {}
        self._coming: dict[ir.Value, list[Any]] = {}
        self._files: Path | None = None
        self._written = 0

    def __contains__(self, value: ir.Value) -> bool:
        return value in self._arrays

    def values(self) -> list[ir.Value]:
        """The values that are held."""
        return list(self._arrays)

    def add(self, value: ir.Value, array: Any) -> None:
        """What `value` is in its next call; it is there when they are published."""
        held = array
        if isinstance(array, np.ndarray):
            if self._folder is not None and array.nbytes > self._free:
                held = self._file()
                np.save(held, array)
            else:
                self._free -= array.nbytes
        self._coming.setdefault(value, []).append(held)

    def publish(self) -> None:
        """The values that were added have been in every call."""
        self._arrays |= self._coming
        self._coming = {}

    def abandon(self) -> None:
        """Forget values that were not added of every call."""
        for arrays in self._coming.values():
            self._release(arrays)
        self._coming = {}

    def get(self, value: ir.Value, index: int) -> Any:
        """What `value` is in a call."""
        held = self._arrays[value][index]
        return np.load(held) if isinstance(held, Path) else held

    def dtypes(self) -> dict[str, Any]:
        """The numpy dtypes of the arrays, by the names of their values."""
        found = {}
        for value in self._arrays:
            first = self._arrays[value][0]
            array = np.load(first, mmap_mode="r") if isinstance(first, Path) else first
            if isinstance(array, np.ndarray) and value.name is not None:
                found[value.name] = array.dtype
        return found

    def keep(self, values: Container[ir.Value]) -> None:
        """Drop all but `values`."""
        for value in self.values():
            if value not in values:
                self.drop(value)

    def drop(self, value: ir.Value) -> None:
        """Forget `value`, if it is held."""
        self._release(self._arrays.pop(value, []))

    def _release(self, arrays: list[Any]) -> None:
        for held in arrays:
            if isinstance(held, Path):
                held.unlink()
            elif isinstance(held, np.ndarray):
                self._free += held.nbytes

    def _file(self) -> Path:
        if self._files is None:
            self._files = Path(tempfile.mkdtemp(prefix="front-", dir=self._folder))
            weakref.finalize(self, shutil.rmtree, self._files, ignore_errors=True)
        self._written += 1
        return self._files / f"{self._written}.npy"
