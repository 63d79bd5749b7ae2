"""Folders that must stay as they are for as long as something is measured."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from graphopt.errors import BadInput
from graphopt.io import digest_of

__all__ = ["Unchanged"]

Print = tuple[int, int, int]
"""Size, time of the last write in nanoseconds, inode: what a file that was written again has otherwise."""


class Unchanged:
    """Files and folders as they are now, to be asked later whether they still are.

    As a context it asks once more, thoroughly, when the context ends without an error. `digests` are those of
    the files by path, as they were when the object was made. Whatever changed is a `BadInput` that names it.
    """

    def __init__(self, *places: str | Path) -> None:
        self._places = [Path(place) for place in dict.fromkeys(places)]
        self._prints = self._now()
        self.digests = {path: digest_of(path) for path in self._prints}

    def look(self) -> None:
        """Raise where a file is there that was not, is gone, or was written: by size, time and inode."""
        now = self._now()
        for path in [*self._prints, *now]:
            if now.get(path) != self._prints.get(path):
                raise _changed(path)

    def verify(self) -> None:
        """The same, and raise where the content of a file is another."""
        self.look()
        for path, digest in self.digests.items():
            if digest_of(path) != digest:
                raise _changed(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.verify()

    def _now(self) -> dict[Path, Print]:
        files = (
            path
            for place in self._places
            for path in ([place] if place.is_file() else sorted(place.rglob("*")))
        )
        found: dict[Path, Print] = {}
        for path in files:
            try:
                if path.is_file():
                    found[path] = _print(path.stat())
            except FileNotFoundError as error:
                raise _changed(path) from error
        return found


def _print(said: os.stat_result) -> Print:
    return said.st_size, said.st_mtime_ns, said.st_ino


def _changed(path: Path) -> BadInput:
    return BadInput(f"{path} changed while it was measured", hint="Measure a folder that nothing writes to.")
