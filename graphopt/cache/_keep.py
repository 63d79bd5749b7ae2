"""Results of calls that are kept under a key: JSON, and folders of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphopt.cache._entry import Damaged
from graphopt.cache._settings import cache_size
from graphopt.cache._states import new_header
from graphopt.cache._store import Store
from graphopt.errors import EnvironmentProblem
from graphopt.io import cache_folder

__all__ = ["Keep", "NotKept"]

_VALUE = "value.json"


class NotKept(EnvironmentProblem):
    """The cache cannot take what has to be kept: it is switched off, too small, or cannot be written."""


class Keep:
    """The cache that the environment names, for values and folders.

    Raises `NotKept` where it is switched off.
    """

    def __init__(self) -> None:
        size = cache_size()
        if not size:
            raise NotKept(
                "the cache is switched off, and results are kept there between tasks",
                hint="Unset GRAPHOPT_CACHE_SIZE, or set it to more than 0.",
            )
        self._store = Store(cache_folder(), size)

    def value(self, key: str) -> Any | None:
        """The JSON that is kept under `key`; None where there is none, or a damaged one."""
        entry = self._store.find(key)
        if entry is None:
            return None
        try:
            return json.loads(entry[1].contents(entry[0])[_VALUE])
        except (Damaged, KeyError, ValueError):
            self._store.drop(key)
            return None

    def has(self, key: str) -> bool:
        """Whether anything is kept under `key`: a folder, JSON, or the export of that key."""
        return self._store.find(key) is not None

    def keep_value(self, key: str, about: tuple[str, str], value: Any) -> None:
        """Store JSON. `about` is what `graphopt cache list` says: a source, and what was done with it."""
        data = json.dumps(value, separators=(",", ":")).encode()

        def fill(folder: Path) -> None:
            (folder / _VALUE).write_bytes(data)
            header = new_header(key, *about)
            header.files[_VALUE] = hashlib.sha256(data).hexdigest()
            header.write(folder)

        self._put(key, fill)

    def folder(self, key: str, about: tuple[str, str], make: Callable[[Path], None]) -> Path:
        """The folder that is kept under `key`; `make` fills it where there is none.

        Entries that were not used for longest go first where the cache is full, and this may be one of them
        later.
        """
        entry = self._store.find(key)
        if entry is not None:
            return entry[0]

        def fill(folder: Path) -> None:
            make(folder)
            new_header(key, *about).write(folder)

        self._put(key, fill)
        if self._store.find(key) is None:
            raise NotKept(
                f"{about[1]} of {about[0]} does not fit into the cache",
                hint="Let it grow with GRAPHOPT_CACHE_SIZE.",
            )
        return self._store.folder / key

    def _put(self, key: str, fill: Callable[[Path], None]) -> None:
        try:
            self._store.put(key, fill)
        except OSError as error:
            raise NotKept(f"the cache at {self._store.folder} cannot be written: {error}") from error
