"""The compiled library, if there is one that runs here."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

from graphopt.errors import BadInput

__all__ = ["convolves", "kernels_name", "library"]

_VARIABLE = "GRAPHOPT_KERNELS"
_OWN, _STOCK = "graphopt", "onnxruntime"
_FORMS = (f"{_OWN}-avx512-vnni", f"{_OWN}-avx-vnni", f"{_OWN}-avx2")
"""Names of the forms in forms.c, the fastest first."""


def library() -> Path | None:
    """The library to register with a session.

    None where none was compiled, no form of the kernels is for this processor, or the environment says
    `GRAPHOPT_KERNELS=onnxruntime`. It may name a form, too: `graphopt-avx512-vnni`, `graphopt-avx-vnni` or
    `graphopt-avx2`; `graphopt`, as if it were not set, is the fastest one that runs here. `BadInput` for
    another value, and for a form that does not run here.
    """
    wanted = os.environ.get(_VARIABLE, _OWN)
    if wanted not in (_OWN, _STOCK, *_FORMS):
        raise BadInput(f"{_VARIABLE}={wanted}: it is one of {', '.join((_OWN, _STOCK, *_FORMS))}")
    file = None if wanted == _STOCK else _compiled()
    if file is None:
        return None
    form = _form(file)
    if form is None and wanted in _FORMS:
        raise BadInput(f"{_VARIABLE}={wanted}: this processor lacks the instructions")
    return None if form is None else file


def kernels_name() -> str:
    """Whose kernels run what both have: "onnxruntime", or the name of the form of ours."""
    file = library()
    return _STOCK if file is None else _form(file) or _STOCK


def convolves() -> bool:
    """Whether the form that runs here has kernels for pictures: convolutions, and what lies between them."""
    file = library()
    return file is not None and bool(ctypes.CDLL(str(file)).form_convolves())


def _form(file: Path) -> str | None:
    """The form that the library takes here, by what the environment says now."""
    name = ctypes.CDLL(str(file)).form_name
    name.restype = ctypes.c_char_p
    found = name()
    return None if found is None else found.decode()


@functools.cache
def _compiled() -> Path | None:
    file = Path(__file__).with_name("_compiled.abi3.so")
    return file if file.is_file() else None
