"""Sessions whose nodes are handed to our kernels, where they serve any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.runtime import open_session as stock_session
from graphopt.runtime import session_of as stock_session_of
from graphopt.runtime import session_options

from ._convolution import with_own_convolutions
from ._ends import hand_over_blocks, hand_over_planes
from ._enlarge import hand_over_enlargements
from ._graph import are_mostly_blocks, only_batch_varies, own_graph, weight_files, with_own_kernels
from ._library import convolves, library
from ._loaded import WEIGHTS_FOLDER, has_integer_convolutions, loaded_graph
from ._max_pool import hand_over_max_pools
from ._prefault import prefault

if TYPE_CHECKING:
    import onnx

__all__ = ["open_session", "session_of"]


def open_session(path: Path, *, threads: int | None = None, options: Any = None) -> Any:
    """What `graphopt.runtime.open_session` opens, nodes that our kernels serve handed to them."""
    given, options = options, options or session_options(threads=threads)
    own = library()
    model = None if own is None else own_graph(path)
    if own is None or model is None:
        return stock_session(path, options=options)
    if given is None:  # memory is planned once for each shape of the inputs, of which these have few
        options.enable_mem_pattern = only_batch_varies(model)
    options.add_session_config_entry(WEIGHTS_FOLDER, str(path.parent))
    for name in weight_files(model):
        prefault(path.with_name(name), in_place=are_mostly_blocks(model))
    return _opened(model, own, options, path.parent, str(path))


def session_of(model: onnx.ModelProto, *, threads: int | None = None) -> Any:
    """The same from a model in memory, which it may change."""
    options, own = session_options(threads=threads), library()
    if own is None or not with_own_kernels(model) | has_integer_convolutions(model.graph):
        return stock_session_of(model.SerializeToString(), options=options)
    return _opened(model, own, options, None, "the model")


def _opened(model: onnx.ModelProto, own: Path, options: Any, folder: Path | None, name: str) -> Any:
    """Convolutions of integers are handed over in the graph that onnxruntime makes, which stays as it is."""
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    data = model.SerializeToString()
    as_usual = options.graph_optimization_level == levels.ORT_ENABLE_ALL
    if as_usual and convolves() and has_integer_convolutions(model.graph):
        loaded = loaded_graph(data, own, folder)
        if loaded is not None and with_own_pictures(loaded):
            data = loaded.SerializeToString()
            options.graph_optimization_level = levels.ORT_DISABLE_ALL
    options.register_custom_ops_library(str(own))
    return stock_session_of(data, name=name, options=options)


def with_own_pictures(model: onnx.ModelProto) -> bool:
    """Hand convolutions of integers in a graph that onnxruntime has made, and what lies between them, to our
    kernels, in place; whether there are any.
    """
    if not with_own_convolutions(model):
        return False
    hand_over_max_pools(model.graph)
    hand_over_enlargements(model.graph)
    hand_over_blocks(model.graph)
    hand_over_planes(model.graph)
    return True
