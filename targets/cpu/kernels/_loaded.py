"""The graph that onnxruntime makes of a model before it runs it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ._known import INT8, UINT8, Known
from ._uses import Uses

if TYPE_CHECKING:
    import onnx

__all__ = ["WEIGHTS_FOLDER", "has_integer_convolutions", "loaded_graph"]

# Where onnxruntime looks for weights of a graph that it is given in memory (its session options' header).
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


def has_integer_convolutions(graph: onnx.GraphProto) -> bool:
    """Whether there is a Conv of integers with int8 weights, both by DequantizeLinear."""
    known, uses = Known.of(graph), Uses.of(graph)

    def is_read(name: str, *kinds: int) -> bool:
        read = uses.maker(name, "DequantizeLinear", 3)
        return read is not None and any(known.is_constant(read.input[2], kind) for kind in kinds)

    return any(
        node.op_type == "Conv"
        and len(node.input) > 1
        and is_read(node.input[0], UINT8, INT8)
        and is_read(node.input[1], INT8)
        for node in graph.node
    )


def loaded_graph(model: bytes, own: Path, folder: Path | None) -> onnx.ModelProto | None:
    """`model` as onnxruntime runs it here: fused, convolutions in the layout that it has kernels for.

    It may have operators of the library `own`, and weights in files of `folder`, where they stay. None where
    onnxruntime cannot load it, and whoever opens it as it is learns why, or it cannot be written.
    """
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(str(own))
    if folder is not None:
        options.add_session_config_entry(WEIGHTS_FOLDER, str(folder))
    try:
        with tempfile.TemporaryDirectory() as made:
            path = Path(made) / "loaded.onnx"
            options.optimized_model_filepath = str(path)
            ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            return onnx.load(path, load_external_data=False)
    except Exception:  # onnxruntime's own have no base of their own; or there is no room for the file
        return None
