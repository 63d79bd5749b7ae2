"""The compiled library, if there is one that runs here."""

from __future__ import annotations

import ctypes
import functools
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from graphopt.errors import BadInput

__all__ = ["kernels_name", "library"]

_VARIABLE = "GRAPHOPT_KERNELS"
_OWN, _STOCK = "graphopt", "onnxruntime"


def library() -> Path | None:
    """The library to register with a session.

    None where none was compiled, the processor lacks AVX512-VNNI, or the environment says
    `GRAPHOPT_KERNELS=onnxruntime`. `BadInput` for another value of it than that and `graphopt`.
    """
    wanted = os.environ.get(_VARIABLE, _OWN)
    if wanted not in (_OWN, _STOCK):
        raise BadInput(f"{_VARIABLE}={wanted}: it is either {_OWN} or {_STOCK}")
    return _compiled() if wanted == _OWN else None


def kernels_name() -> str:
    """Whose kernels run what both have: "graphopt" or "onnxruntime"."""
    return _STOCK if library() is None else _OWN


@functools.cache
def _compiled() -> Path | None:
    for suffix in EXTENSION_SUFFIXES:
        file = Path(__file__).with_name(f"_compiled{suffix}")
        if file.is_file() and ctypes.CDLL(str(file)).machine_multiplies():
            return file
    return None
