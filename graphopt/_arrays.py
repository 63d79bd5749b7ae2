"""Arrays by name, from .npz files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput

__all__ = ["read_arrays"]


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of the .npz file at `path`, none of them pickled. `BadInput` for anything else."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise BadInput(
                f"{path} holds one array without a name", hint="Save it with numpy.savez(path, name=array)."
            )
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is not an .npz file: {error}") from error
    except ValueError as error:  # numpy advises to unpickle what it does not know
        raise BadInput(
            f"{path} is not an .npz file, or holds pickled objects",
            hint="Save it with numpy.savez(path, name=array), arrays of numbers only.",
        ) from error
