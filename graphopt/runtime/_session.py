"""Sessions that are set up for the machine they are opened on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.errors import BadInput
from graphopt.kernels import library, own_graph, weight_files, with_own_kernels
from graphopt.runtime._installation import check_installation
from graphopt.runtime._prefault import prefault
from graphopt.runtime._threads import default_threads

if TYPE_CHECKING:
    import onnx

__all__ = ["open_session", "session_of", "session_options"]

_GRAPH = "model.onnx"
_FOLDER = "session.model_external_initializers_file_folder_path"


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


def open_session(
    path: str | Path,
    *,
    threads: int | None = None,
    providers: tuple[str, ...] = (),
    options: Any = None,
    own_kernels: bool = True,
) -> Any:
    """An `onnxruntime.InferenceSession` of a graph: an .onnx file, or the one in a package folder.

    `providers` defaults to the CPU's, `options`, which may be added to, to `session_options`. On the CPU
    `graphopt.kernels` run the nodes that they serve, unless `own_kernels` is False. `BadInput` with the
    runtime's reason where it cannot be loaded.
    """
    file = _graph_file(Path(path))
    options = options or session_options(threads=threads)
    model = None if providers or not own_kernels else _for_own_kernels(file, options)
    return _opened(model or str(file), options, providers, str(file))


def session_of(model: onnx.ModelProto, *, threads: int | None = None) -> Any:
    """What `open_session` opens, from a model in memory, which it may change."""
    options, own = session_options(threads=threads), library()
    if own is not None and with_own_kernels(model):
        options.register_custom_ops_library(str(own))
    return _opened(model.SerializeToString(), options, (), "the model")


def _for_own_kernels(file: Path, options: Any) -> bytes | None:
    """The graph that calls our kernels, if they serve any of it; `options` are then made to fit."""
    own = library()
    model = None if own is None else own_graph(file)
    if model is None:
        return None
    options.register_custom_ops_library(str(own))
    options.add_session_config_entry(_FOLDER, str(file.parent))
    for name in weight_files(model):
        prefault(file.with_name(name))
    return bytes(model.SerializeToString())


def _opened(model: str | bytes, options: Any, providers: tuple[str, ...], name: str) -> Any:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    errors = (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile, state.NotImplemented)
    try:
        return ort.InferenceSession(model, options, providers=list(providers) or ["CPUExecutionProvider"])
    except (*errors, state.InvalidArgument, state.RuntimeException) as error:
        raise BadInput(f"onnxruntime cannot load {name}: {error}") from error


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
