"""What an entry of the cache says about itself, and whether it is whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

__all__ = ["HEADER", "Damaged", "FileState", "Header"]

HEADER = "entry.json"

FileState = tuple[int, int, int]
"""Size, time of modification in ns, and inode."""


class Damaged(Exception):
    """An entry that cannot be used: not whole, or made from files that have changed since."""


class Header(BaseModel):
    """entry.json. `files` are digests of the entry's own files, `scratch` the least sizes of its weights'.

    `sources` are the files that weights are read from, outside the entry, as they were. `seal` is the digest
    of everything else here.
    """

    format: Literal[2] = 2
    key: str
    source: str
    step: str
    graphopt: str
    created: float
    files: dict[str, str] = Field(default_factory=dict)
    scratch: dict[str, int] = Field(default_factory=dict)
    sources: dict[str, FileState] = Field(default_factory=dict)
    seal: str = ""

    def write(self, folder: Path) -> None:
        """Seal it and write it into `folder`."""
        self.seal = self._digest()
        (folder / HEADER).write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Header:
        """The header in `folder`. Raises `Damaged`."""
        try:
            header = cls.model_validate_json((folder / HEADER).read_bytes())
        except (OSError, ValidationError) as error:
            raise Damaged(str(error)) from error
        if header.key != folder.name or header.seal != header._digest():
            raise Damaged(f"{folder / HEADER} has changed")
        return header

    def _digest(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"seal"}).encode()).hexdigest()

    def contents(self, folder: Path) -> dict[str, bytes]:
        """The entry's own files, read and compared with their digests. Raises `Damaged`.

        Weights are only asked whether they are there and long enough, and source files whether they are as
        they were.
        """
        try:
            held = {name: (folder / name).read_bytes() for name in self.files}
            sizes = {name: (folder / name).stat().st_size for name in self.scratch}
            states = {path: state_of(Path(path)) for path in self.sources}
        except OSError as error:
            raise Damaged(str(error)) from error
        for name, data in held.items():
            if hashlib.sha256(data).hexdigest() != self.files[name]:
                raise Damaged(f"{folder / name} has changed")
        for name, size in self.scratch.items():
            if sizes[name] < size:
                raise Damaged(f"{folder / name} is too short")
        for path, state in self.sources.items():
            if states[path] != state:
                raise Damaged(f"{path} has changed")
        return held


def state_of(path: Path) -> FileState:
    """What tells one state of a file from another without reading it."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino
