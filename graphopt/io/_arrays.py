"""Arrays by name: from .npz files, and out of what onnxruntime gives."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["parts_of", "read_arrays"]


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of the .npz file at `path`, none of them pickled. `BadInput` for anything else."""
    import numpy as np

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
            hint="Save it with numpy.savez(path, name=array), arrays of numbers or of text (dtype str).",
        ) from error


def parts_of(name: str, value: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays that an output is made of: itself; keys and values of a map; how many a sequence or an
    optional has, and each of these."""
    import numpy as np

    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, dict):
        yield f"{name}.keys", np.asarray(list(value))
        yield f"{name}.values", np.asarray(list(value.values()))
    else:
        held = value if isinstance(value, list) else [] if value is None else [value]
        yield f"{name}.length", np.asarray(len(held))
        for index, part in enumerate(held):
            whole = part is None or isinstance(part, list | dict)
            yield from parts_of(f"{name}[{index}]", part if whole else np.asarray(part))
