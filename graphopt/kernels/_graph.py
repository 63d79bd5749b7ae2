"""Which nodes of a graph our kernels serve, and the graph that calls them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["own_graph", "with_own_kernels"]

_DOMAIN, _OPERATOR = "com.microsoft", "MatMulNBits"
_OWN_DOMAIN = "graphopt"
_BLOCKS = {4: (32, 64, 128, 256), 8: (128, 256)}
_CHUNK = 128
_LARGE = 1 << 28
_BIAS = 5
_FLOAT, _UINT8 = 1, 2  # of onnx.TensorProto
_INT = 2  # of onnx.AttributeProto
_DEFAULTS = {"bits": 4, "accuracy_level": 0}


def own_graph(path: Path) -> onnx.ModelProto | None:
    """The graph at `path` with nodes that our kernels serve handed to them, its weights still in their file.

    None where there are none, the file holds large weights itself, which would have to be copied, or it is
    damaged: onnxruntime says how.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        if path.stat().st_size > _LARGE:
            return None
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError):
        return None
    return model if with_own_kernels(model) else None


def with_own_kernels(model: onnx.ModelProto) -> bool:
    """Hand the nodes of `model` that our kernels serve to them, in place; whether there are any.

    Those are MatMulNBits of 4 or 8 bits in float32, without zero points, whose activations may be rounded to
    int8 (accuracy_level 4), with K a multiple of 128 and of the block; weights, scales and bias initializers
    of the sizes that the node says. Results are those of onnxruntime's kernel up to the order of sums. Nodes
    within If, Loop and Scan stay as they are.
    """
    found = list(_served(model.graph))
    for node in found:
        node.domain = _OWN_DOMAIN
        if all(a.name != "bits" for a in node.attribute):
            node.attribute.add(name="bits", type=_INT, i=_DEFAULTS["bits"])
        kept = [*node.input[:3], *node.input[_BIAS:]]
        del node.input[:]
        node.input.extend(kept)
    if found:
        model.opset_import.add(domain=_OWN_DOMAIN, version=1)
    return bool(found)


def _served(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    given = {value.name for value in graph.input}
    constants = {x.name: x for x in graph.initializer if x.name not in given}
    for node in graph.node:
        if node.domain == _DOMAIN and node.op_type == _OPERATOR and _is_served(node, constants):
            yield node


def _is_served(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    says = _DEFAULTS | {a.name: a.i for a in node.attribute}
    k, n, block = says.get("K", 0), says.get("N", 0), says.get("block_size", 0)
    bits = says["bits"]
    if says["accuracy_level"] != 4 or says.get("weight_prepacked"):
        return False
    if block not in _BLOCKS.get(bits, ()) or k < 1 or n < 1 or k % max(block, _CHUNK):
        return False
    names = [*node.input, *[""] * (_BIAS + 1 - len(node.input))]
    if len(names) > _BIAS + 1 or any(names[3:_BIAS]):
        return False
    wanted = [(names[1], _UINT8, k * bits // 8 * n), (names[2], _FLOAT, k // block * n)]
    if names[_BIAS]:
        wanted.append((names[_BIAS], _FLOAT, n))
    return all(
        name in constants and constants[name].data_type == kind and prod(constants[name].dims) == size
        for name, kind, size in wanted
    )
