"""What a pass found out on its way, for a run that comes as far again."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphopt.cache._entry import Header
from graphopt.cache._keys import StepKeys, result_key

if TYPE_CHECKING:
    from graphopt.cache._run import RunCache
    from graphopt.interface import Arrays

__all__ = ["StepResults"]

_ARRAYS = "arrays.npz"


@dataclass(frozen=True)
class StepResults:
    """The `Memory` of one step: an entry of the cache for each result."""

    run: RunCache
    step: str
    keys: StepKeys

    def recall(self, key: str, *, for_any_options: bool) -> dict[str, np.ndarray] | None:
        """The arrays that were kept under `key`, if any were."""

        def read(header: Header, folder: Path) -> dict[str, np.ndarray]:
            return dict(np.load(io.BytesIO(header.contents(folder)[_ARRAYS]), allow_pickle=False))

        return self.run.read(self._key(key, for_any_options), read)

    def keep(self, key: str, arrays: Arrays, *, for_any_options: bool) -> None:
        """Store the arrays under `key`."""

        def fill(header: Header, folder: Path) -> None:
            np.savez(folder / _ARRAYS, allow_pickle=False, **arrays)
            with (folder / _ARRAYS).open("rb") as stream:
                header.files[_ARRAYS] = hashlib.file_digest(stream, "sha256").hexdigest()
            header.write(folder)

        self.run.write(self._key(key, for_any_options), f"within {self.step}", fill)

    def _key(self, key: str, for_any_options: bool) -> str:
        return result_key(self.keys.code if for_any_options else self.keys.after, key)
