"""Sessions that are set up for the machine they are opened on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphopt.errors import BadInput
from graphopt.runtime._installation import check_installation
from graphopt.runtime._threads import default_threads

__all__ = ["open_session", "session_options"]

_GRAPH = "model.onnx"


def session_options(*, threads: int | None = None) -> Any:
    """`onnxruntime.SessionOptions` with as many threads as the process may use, or `threads`."""
    check_installation()
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.inter_op_num_threads = 1
    # Kept for each set of shapes, of which decoding has a new one with every token.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options


def open_session(path: str | Path, *, threads: int | None = None, providers: tuple[str, ...] = ()) -> Any:
    """An `onnxruntime.InferenceSession` of a graph: an .onnx file, or the one in a package folder.

    `providers` defaults to the CPU's. `BadInput` with the runtime's reason where it cannot be loaded.
    """
    options = session_options(threads=threads)
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    file = _graph_file(Path(path))
    errors = (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile, state.NotImplemented)
    try:
        return ort.InferenceSession(str(file), options, providers=list(providers) or ["CPUExecutionProvider"])
    except (*errors, state.InvalidArgument, state.RuntimeException) as error:
        raise BadInput(f"onnxruntime cannot load {file}: {error}") from error


def _graph_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    from graphopt.package import MANIFEST, read_manifest

    if not (path / MANIFEST).is_file():
        return path / _GRAPH
    graphs = read_manifest(path).graphs
    if "model" not in graphs:
        raise BadInput(
            f"package {path} has several graphs: {', '.join(graphs)}", hint="Open one of its files."
        )
    return path / graphs["model"].file
