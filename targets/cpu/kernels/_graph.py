"""Which nodes of a graph our kernels serve, and the graph that calls them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ._attention import hand_over_attention
from ._full_attention import hand_over_full_attention
from ._gates import join_gates
from ._known import INT8, OWN_DOMAIN, UINT8, Known
from ._loaded import has_integer_convolutions
from ._matmul_nbits import hand_over_matmul_nbits
from ._row_product import join_row_products

if TYPE_CHECKING:
    import onnx

__all__ = ["only_batch_varies", "own_graph", "weight_files", "with_own_kernels"]

_DOMAIN = "com.microsoft"
_LARGE = 1 << 28  # bytes: a graph file with more holds weights, which would be copied to hand nodes over
_SERVED = {"MatMulNBits": hand_over_matmul_nbits, "GroupQueryAttention": hand_over_attention}


def own_graph(path: Path) -> onnx.ModelProto | None:
    """The graph at `path` with nodes that our kernels serve handed to them, its weights still in their file.

    Convolutions of integers are still to be handed over. None where there are neither, the file holds large
    weights itself, which would have to be copied, or it is damaged: onnxruntime says how.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        if path.stat().st_size > _LARGE:
            return None
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError):
        return None
    return model if with_own_kernels(model) | has_integer_convolutions(model.graph) else None


def with_own_kernels(model: onnx.ModelProto) -> bool:
    """Hand the nodes of `model` that our kernels serve to them, in place; whether there are any.

    Results are those of onnxruntime's kernels up to the order of sums; products of rounded rows, and of
    weights of 8 bits, are nearer the exact ones. Attention whose rows are made by products of rounded rows
    multiplies in bfloat16, where the processor does. Nodes within If, Loop and Scan stay as they are.
    """
    known = Known.of(model.graph)
    found = [node for node in model.graph.node if node.domain == _DOMAIN and _handed_over(node, known)]
    join_gates(model.graph)
    joined = [join(model.graph, known) for join in (join_row_products, hand_over_full_attention)]
    if found or any(joined):
        model.opset_import.add(domain=OWN_DOMAIN, version=1)
        return True
    return False


def only_batch_varies(model: onnx.ModelProto) -> bool:
    """Whether every size of the inputs is known but for the first of each, the number of samples."""
    held = {x.name for x in model.graph.initializer}
    types = [value.type.tensor_type for value in model.graph.input if value.name not in held]
    return all(
        kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim[1:])
        for kind in types
    )


def are_mostly_blocks(model: onnx.ModelProto) -> bool:
    """Whether most bytes of weights are integers, which our kernels read where they lie."""
    sizes = {False: 0, True: 0}
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "length":
                sizes[tensor.data_type in (INT8, UINT8)] += int(entry.value)
    return sizes[True] > sizes[False]


def weight_files(model: onnx.ModelProto) -> set[str]:
    """Names of the files beside the model that its weights lie in."""
    named = {
        entry.value for x in model.graph.initializer for entry in x.external_data if entry.key == "location"
    }
    return {name for name in named if Path(name).name == name}


def _handed_over(node: onnx.NodeProto, known: Known) -> bool:
    hand_over = _SERVED.get(node.op_type)
    if hand_over is None or not hand_over(node, known):
        return False
    node.domain = OWN_DOMAIN
    return True
