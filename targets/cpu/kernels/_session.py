"""Sessions whose nodes are handed to our kernels, where they serve any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.runtime import open_session as stock_session
from graphopt.runtime import session_of as stock_session_of
from graphopt.runtime import session_options

from ._graph import own_graph, weight_files, with_own_kernels
from ._library import library
from ._prefault import prefault

if TYPE_CHECKING:
    import onnx

__all__ = ["open_session", "session_of"]

# Where onnxruntime looks for weights of a graph that it is given in memory (its session options' header).
_FOLDER = "session.model_external_initializers_file_folder_path"


def open_session(path: Path, *, threads: int | None = None, options: Any = None) -> Any:
    """What `graphopt.runtime.open_session` opens, nodes that our kernels serve handed to them."""
    options = options or session_options(threads=threads)
    own = library()
    model = None if own is None else own_graph(path)
    if model is None:
        return stock_session(path, options=options)
    options.register_custom_ops_library(str(own))
    options.add_session_config_entry(_FOLDER, str(path.parent))
    for name in weight_files(model):
        prefault(path.with_name(name))
    return stock_session_of(model.SerializeToString(), name=str(path), options=options)


def session_of(model: onnx.ModelProto, *, threads: int | None = None) -> Any:
    """The same from a model in memory, which it may change."""
    options, own = session_options(threads=threads), library()
    if own is not None and with_own_kernels(model):
        options.register_custom_ops_library(str(own))
    return stock_session_of(model.SerializeToString(), options=options)
