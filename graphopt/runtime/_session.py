"""Sessions that are set up for the machine they are opened on."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.runtime._threads import default_threads

__all__ = ["check_installation", "open_session", "session_options"]

_MODULE = "onnxruntime"


def session_options(*, threads: int | None = None) -> Any:
    """`onnxruntime.SessionOptions` with as many threads as the process may use, or `threads`."""
    check_installation()
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def open_session(path: str | Path, *, threads: int | None = None, providers: tuple[str, ...] = ()) -> Any:
    """An `onnxruntime.InferenceSession` of the file at `path`; `BadInput` with the runtime's reason."""
    options = session_options(threads=threads)
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    errors = (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile, state.NotImplemented)
    try:
        return ort.InferenceSession(str(path), options, providers=list(providers) or ["CPUExecutionProvider"])
    except (*errors, state.InvalidArgument, state.RuntimeException) as error:
        raise BadInput(f"onnxruntime cannot load {path}: {error}") from error


def check_installation() -> None:
    """Raise `EnvironmentProblem` where onnxruntime is missing, or two lie over each other."""
    found = sorted(set(importlib.metadata.packages_distributions().get(_MODULE, ())))
    if not found:
        raise EnvironmentProblem("onnxruntime is not installed", hint="pip install onnxruntime")
    if len(found) > 1:
        others = " ".join(name for name in found if name != _MODULE) or found[0]
        keep = _MODULE if _MODULE in found else found[0]
        raise EnvironmentProblem(
            f"{len(found)} distributions of onnxruntime are installed over each other: {', '.join(found)}; "
            "which files are in force is chance",
            hint=f"Keep one: pip uninstall -y {_MODULE} {others} && pip install {keep}",
        )
