"""fold-constants: what depends on constants alone is computed now."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from graphopt.ir import LazyTensor, Transposed, const_of, evaluate, has_data, lazy
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass

_DRAWS = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
# Results of these are operands, as they are or rounded in one way only.
_MOVES = frozenset(
    {"Cast", "Concat", "ConstantOfShape", "Expand", "Flatten", "Gather", "GatherND", "Identity", "Neg", "Pad"}
    | {"Reshape", "ScatterND", "Slice", "Split", "Squeeze", "Tile", "Unsqueeze", "Where", "Abs"}
)
# Narrower floats the runtime widens, for as many nodes at once as it likes.
_KERNELS_FOR = (np.float32, np.float64)
_READ_LIMIT = 1 << 20


class FoldConstants(Pass):
    """Nodes whose inputs are all constant become initializers, within a net-byte budget.

    Before: c = Add(w, 1) with w an initializer; s = Shape(x)[1:2] with that dimension known; k = Constant()
    After:  initializers of the same names
    A Transpose of a large weight becomes a lazy view of it: nothing is read, and where the weight has no
    other use nothing is added.
    Refuses: results (or intermediate sizes) that would grow the model by more than `max_growth` bytes in all;
    weights without data; random operators; graph inputs with defaults; large operands but under Transpose.
    """

    name: ClassVar[str] = "fold-constants"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()

    @dataclass(frozen=True)
    class Options:
        """max_growth: bytes the model may grow by in all."""

        max_growth: int = 1 << 20

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        budget = self.options.max_growth
        for node in graph:
            if node.domain != "" or node.op_type in _DRAWS or not node.outputs:
                continue
            folded = _fold(node, context)
            if folded is None:
                continue
            growth = sum(t.nbytes for t in folded) - _freed(node)
            if growth > max(budget, 0) and node.op_type != "Constant":
                yield NearMiss(node.name or node.op_type, f"would add {growth:,} bytes")
                continue
            values = [
                ir.Value(
                    name=f"{old.name}/constant",
                    shape=ir.Shape(tensor.shape.numpy()),
                    type=ir.TensorType(tensor.dtype),
                    const_value=tensor,
                )
                for old, tensor in zip(node.outputs, folded, strict=True)
            ]
            if any(old.is_graph_output() for old in node.outputs):
                continue
            budget -= max(growth, 0) if node.op_type != "Constant" else 0
            yield Edit(
                f"{node.op_type} of constants",
                remove=[node],
                initializers=values,
                replace=dict(zip(node.outputs, values, strict=True)),
            )


def _fold(node: ir.Node, context: Context) -> Sequence[ir.TensorProtocol] | None:
    if node.op_type == "Constant":
        tensor = _constant_node(node)
        return None if tensor is None else [tensor]
    if node.op_type in ("Shape", "Size"):
        return _static_shape(node)
    if node.op_type == "CastLike":
        return _cast_like(node)
    if not node.inputs or not all(value is None or _is_constant(value) for value in node.inputs):
        return None
    if node.op_type == "Transpose":
        return _transposed(node)
    arrays = [None if value is None else const_of(value) for value in node.inputs]
    if any(a is None and v is not None for a, v in zip(arrays, node.inputs, strict=True)):
        return None
    return _evaluate(node, arrays, context)


def _is_constant(value: ir.Value) -> bool:
    return (
        value.is_initializer()
        and not value.is_graph_input()
        and value.const_value is not None
        and has_data(value.const_value)
    )


def _freed(node: ir.Node) -> int:
    inputs = {value for value in node.inputs if value is not None and value.is_initializer()}
    return sum(
        value.const_value.nbytes
        for value in inputs
        if value.const_value is not None and all(user is node for user, _ in value.uses())
    )


def _constant_node(node: ir.Node) -> ir.TensorProtocol | None:
    ((name, attribute),) = node.attributes.items()
    match name:
        case "value":
            return attribute.as_tensor()
        case "value_int" | "value_ints":
            return ir.tensor(np.asarray(attribute.value, np.int64))
        case "value_float" | "value_floats":
            return ir.tensor(np.asarray(attribute.value, np.float32))
        case "value_string" | "value_strings":
            return ir.tensor(np.asarray(attribute.value, object), dtype=ir.DataType.STRING)
    return None


def _static_shape(node: ir.Node) -> Sequence[ir.TensorProtocol] | None:
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    dims = list(value.shape)
    if node.op_type == "Shape":
        dims = dims[slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", None))]
    if not all(isinstance(d, int) for d in dims):
        return None
    array = np.asarray(dims, np.int64)
    return [ir.tensor(array if node.op_type == "Shape" else np.asarray(array.prod(), np.int64))]


def _cast_like(node: ir.Node) -> Sequence[ir.TensorProtocol] | None:
    value, like = node.inputs
    if value is None or like is None or like.dtype is None or not _is_constant(value):
        return None
    array = const_of(value)
    return None if array is None else [ir.tensor(array.astype(like.dtype.numpy()))]


def _transposed(node: ir.Node) -> Sequence[ir.TensorProtocol] | None:
    value = node.inputs[0]
    assert value is not None
    assert value.const_value is not None
    tensor = value.const_value
    rank = len(tensor.shape)
    perm = tuple(node.attributes.get_ints("perm") or reversed(range(rank)))
    return [LazyTensor(Transposed(lazy(tensor), perm), name=node.outputs[0].name)]


def _evaluate(
    node: ir.Node, arrays: Sequence[np.ndarray | None], context: Context
) -> Sequence[ir.TensorProtocol] | None:
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return None
    if _output_bytes(node.op_type, arrays) > _READ_LIMIT:
        return None
    key = _key(node, arrays, context.opset)
    memo: dict[Hashable, Sequence[np.ndarray] | None] = context.memo.setdefault("fold-constants", {})
    if key not in memo:
        memo[key] = _run(node, arrays, context.opset)
    results = memo[key]
    return None if results is None else [ir.tensor(np.asarray(r)) for r in results]


def _output_bytes(op_type: str, arrays: Sequence[np.ndarray | None]) -> int:
    """An upper bound, from the operands, for operators whose result can dwarf them."""
    first, *rest = (a for a in arrays if a is not None)
    match op_type:
        case "ConstantOfShape":
            return 8 * int(np.prod(np.maximum(first, 0), dtype=np.float64))
        case "Expand":
            return int(first.nbytes * np.prod(np.maximum(rest[0], 1), dtype=np.float64))
        case "Tile":
            return int(first.nbytes * np.prod(np.maximum(rest[0], 0), dtype=np.float64))
        case "Range":
            return int(8 * max(0.0, float(rest[0] - first) / float(rest[1])))
        case "Pad" | "Resize" | "OneHot" | "Upsample" | "Einsum" | "ConvTranspose" | "MatMul" | "Gemm":
            return int(np.prod([max(a.nbytes, 1) for a in arrays if a is not None], dtype=np.float64))
        case _:
            shapes = [a.shape for a in arrays if a is not None]
            try:
                broadcast = int(np.prod(np.broadcast_shapes(*shapes), dtype=np.float64)) * 8
            except ValueError:
                broadcast = 0
            return max(broadcast, sum(a.nbytes for a in arrays if a is not None))


def _key(node: ir.Node, arrays: Sequence[np.ndarray | None], opset: int) -> Hashable:
    attributes = tuple(sorted((n, ir.to_proto(a).SerializeToString()) for n, a in node.attributes.items()))
    operands = tuple(None if a is None else (a.dtype.str, a.shape, a.tobytes()) for a in arrays)
    return (opset, node.op_type, len(node.outputs), attributes, operands)


def _run(node: ir.Node, arrays: Sequence[np.ndarray | None], opset: int) -> Sequence[np.ndarray] | None:
    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    proto = onnx.helper.make_node(node.op_type, names, [f"y{i}" for i in range(len(node.outputs))])
    proto.attribute.extend(ir.to_proto(a) for a in node.attributes.values())
    feeds = {name: a for name, a in zip(names, arrays, strict=True) if a is not None}
    try:
        results = ReferenceEvaluator(proto, opsets={"": opset}).run(None, feeds)
    except Exception:
        return None  # the reference implementation does not cover every operator; unfolded is still right
    if not isinstance(results, list) or not all(isinstance(r, np.ndarray | np.generic) for r in results):
        return None
    if node.op_type not in _MOVES and any(r.dtype in _KERNELS_FOR for r in results):
        return _by_the_runtime(proto, feeds, results, opset) or results
    return results


def _by_the_runtime(
    node: onnx.NodeProto, feeds: Mapping[str, np.ndarray], like: Sequence[np.ndarray], opset: int
) -> Sequence[np.ndarray] | None:
    """What onnxruntime computes: to the bit what the node would have given in the graph."""

    def described(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return onnx.helper.make_tensor_value_info(name, kind, array.shape)

    inputs = [described(name, array) for name, array in feeds.items()]
    outputs = [described(name, np.asarray(r)) for name, r in zip(node.output, like, strict=True)]
    graph = onnx.helper.make_graph([node], "folded", inputs, outputs)
    imports = [onnx.helper.make_opsetid("", opset)]
    try:
        return evaluate(ir.from_proto(onnx.helper.make_model(graph, opset_imports=imports)), feeds)
    except Exception:
        return None  # it has no kernel for these types: then the graph has none either
