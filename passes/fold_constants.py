"""fold-constants: what depends on constants alone is computed now."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.ir import (
    LazyTensor,
    Transposed,
    attribute_proto,
    const_of,
    evaluate,
    has_data,
    is_random,
    lazy,
    stored_bytes,
    subgraphs_of,
)
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Outcome, Pass

_SIZED_BY_VALUES = frozenset(
    {"ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "Upsample", "OneHot"}
    | {"HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix", "CenterCropPad"}
)
# Results of these are operands, as they are or rounded in one way only.
_MOVES = frozenset(
    {"Cast", "Concat", "ConstantOfShape", "Expand", "Flatten", "Gather", "GatherND", "Identity", "Neg", "Pad"}
    | {"Reshape", "ScatterND", "Slice", "Split", "Squeeze", "Tile", "Unsqueeze", "Where", "Abs"}
)
# Its result is four or eight times as large, and the runtime looks for it before the kernels it fuses.
_WIDENS = "DequantizeLinear"
# Narrower floats the runtime widens, for as many nodes at once as it likes.
_KERNELS_FOR = (np.float32, np.float64)
# Their result is all of one operand, and keeps its name: weights are chosen by the checkpoint's names.
_KEEP_ALL = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_OF_SHAPE_OR_TYPE = ("CastLike", "Shape", "Size")
_READ_LIMIT = 1 << 20  # bytes, as `const_of` reads: a judgement, between tables and weights


class FoldConstants(Pass):
    """Nodes whose inputs are all constant become initializers, within one net-byte budget for a whole run.

    Before: c = Add(w, 1) with w an initializer; s = Shape(x)[1:2] with that dimension known; k = Constant()
    After:  initializers of the same names; a matrix in another shape, order or type is NAME~how of its own
    A Transpose of a large weight becomes a lazy view of it: nothing is read, and where the weight has no
    other use nothing is added.
    Refuses: results (or intermediate sizes) that would grow the model by more than `max_growth` bytes in all
    steps of a recipe; DequantizeLinear, whose integers the runtime's kernels compute with; weights without
    data; what draws random numbers; computations on text; graph inputs with defaults; large operands but
    under Transpose.
    """

    name: ClassVar[str] = "fold-constants"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(7, None)

    @dataclass(frozen=True)
    class Options:
        """max_growth: bytes the model may grow by, in this step and all before it."""

        max_growth: int = 1 << 20

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "" or not node.outputs:
                continue
            reason = _kept(node, context.model)
            if reason is not None:
                yield NearMiss(node.name or node.op_type, reason)
                continue
            if any(output.is_graph_output() for output in node.outputs):
                continue
            room = max(self.options.max_growth - context.spent.get(self.name, 0), 0)
            try:
                folded = _fold(node, context, room + _freed(node))
            except _TooLarge as found:
                yield NearMiss(node.name or node.op_type, f"would add {found.nbytes - _freed(node):,} bytes")
                continue
            if folded is None:
                continue
            growth = sum(map(stored_bytes, folded)) - _freed(node)
            values = [
                ir.Value(
                    name=_name(node, old),
                    shape=ir.Shape(tensor.shape.numpy()),
                    type=ir.TensorType(tensor.dtype),
                    const_value=tensor,
                )
                for old, tensor in zip(node.outputs, folded, strict=True)
            ]
            is_new = node.op_type != "Constant"
            outcome = yield Edit(
                f"{node.op_type} of constants",
                remove=[node],
                initializers=values,
                replace=dict(zip(node.outputs, values, strict=True)),
            )
            if outcome is Outcome.APPLIED and is_new:
                context.spent[self.name] = context.spent.get(self.name, 0) + max(growth, 0)


def _name(node: ir.Node, old: ir.Value) -> str:
    operand = node.inputs[0] if node.inputs else None
    if node.op_type in _KEEP_ALL and operand is not None and len(operand.shape or ()) > 1:
        return f"{operand.name}~{node.op_type.lower()}"
    return f"{old.name}/constant"


def _kept(node: ir.Node, model: ir.Model) -> str | None:
    """Why a node stays whose inputs are all initializers."""
    inputs = [value for value in node.inputs if value is not None]
    if not all(value.is_initializer() for value in inputs):
        return None
    if is_random(node, model):
        return "it draws random numbers, other ones in each run"
    if node.op_type not in _OF_SHAPE_OR_TYPE and any(value.is_graph_input() for value in inputs):
        return "its operand is the default of an input, which a caller may change"
    if node.op_type == _WIDENS and all(map(_is_constant, inputs)):
        return "a quantized weight stays quantized"
    return None


class _TooLarge(Exception):
    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes)
        self.nbytes = nbytes


def _fold(node: ir.Node, context: Context, room: int) -> Sequence[ir.TensorProtocol] | None:
    """What the node makes, None where that is unknown. Raises `_TooLarge` for more than `room` bytes."""
    if node.op_type == "Constant":
        tensor = _constant_node(node)
        return None if tensor is None else [tensor]
    if node.op_type in ("Shape", "Size"):
        return _static_shape(node)
    if node.op_type == "CastLike":
        return _within(_cast_like(node), room)
    if not node.inputs or not all(value is None or _is_constant(value) for value in node.inputs):
        return None
    if node.op_type == "Transpose":
        return _within(_transposed(node), room)
    arrays = [None if value is None else const_of(value) for value in node.inputs]
    if any(
        v is not None and (a is None or a.dtype.kind in "OSU")
        for a, v in zip(arrays, node.inputs, strict=True)
    ):
        return None
    return _within(_evaluate(node, arrays, context, room), room)


def _within(folded: Sequence[ir.TensorProtocol] | None, room: int) -> Sequence[ir.TensorProtocol] | None:
    nbytes = sum(map(stored_bytes, folded or ()))
    if nbytes > room:
        raise _TooLarge(nbytes)
    return folded


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
        stored_bytes(value.const_value)
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
    if sorted(perm) != list(range(rank)):
        return None
    return [LazyTensor(Transposed(lazy(tensor), perm), name=node.outputs[0].name)]


def _evaluate(
    node: ir.Node, arrays: Sequence[np.ndarray | None], context: Context, room: int
) -> Sequence[ir.TensorProtocol] | None:
    if any(True for _ in subgraphs_of(node)):
        return None
    nbytes = _result_bytes(node, arrays, context.opset)
    if nbytes is None or nbytes > _READ_LIMIT:
        return None
    if nbytes > room:
        raise _TooLarge(nbytes)
    key = _key(node, arrays, context.opset)
    memo: dict[Hashable, Sequence[np.ndarray] | None] = context.memo.setdefault("fold-constants", {})
    if key not in memo:
        memo[key] = _run(node, arrays, context.opset)
    results = memo[key]
    return None if results is None else [ir.tensor(np.asarray(r)) for r in results]


def _result_bytes(node: ir.Node, arrays: Sequence[np.ndarray | None], opset: int) -> int | None:
    """How large the results are, by the operator's own inference of shapes; None where it cannot say.

    Where a shape is data, as NonZero's, no result is larger than its operands broadcast together.
    """
    proto = _bare(node, arrays)
    known = {
        name: onnx.numpy_helper.from_array(a)
        for name, a in zip(proto.input, arrays, strict=True)
        if a is not None
    }
    types = {name: onnx.helper.make_tensor_type_proto(t.data_type, t.dims) for name, t in known.items()}
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        found = onnx.shape_inference.infer_node_outputs(
            schema, proto, types, known, opset_imports=[onnx.helper.make_opsetid("", opset)]
        )
        total = 0
        for result in found.values():
            if result.WhichOneof("value") != "tensor_type":
                return None
            shape = result.tensor_type.shape
            if not result.tensor_type.HasField("shape") or any(
                not d.HasField("dim_value") for d in shape.dim
            ):
                if node.op_type in _SIZED_BY_VALUES:
                    return None
                shapes = [a.shape for a in arrays if a is not None]
                dims: Sequence[int] = (*np.broadcast_shapes(*shapes), max(map(len, shapes)))
            else:
                dims = [d.dim_value for d in shape.dim]
            dtype = ir.DataType(result.tensor_type.elem_type)
            width = 1.0 if dtype == ir.DataType.STRING else dtype.itemsize
            total += int(prod(max(d, 0) for d in dims) * width)
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, ValueError):
        return None
    return total


def _key(node: ir.Node, arrays: Sequence[np.ndarray | None], opset: int) -> Hashable:
    attributes = tuple(
        sorted((n, attribute_proto(a).SerializeToString()) for n, a in node.attributes.items())
    )
    operands = tuple(None if a is None else (a.dtype.str, a.shape, a.tobytes()) for a in arrays)
    return (opset, node.op_type, len(node.outputs), attributes, operands)


def _run(node: ir.Node, arrays: Sequence[np.ndarray | None], opset: int) -> Sequence[np.ndarray] | None:
    from onnx.reference import ReferenceEvaluator

    proto = _bare(node, arrays)
    feeds = {name: a for name, a in zip(proto.input, arrays, strict=True) if a is not None}
    try:
        results = ReferenceEvaluator(proto, opsets={"": opset}).run(None, feeds)
    except Exception:
        return None  # the reference implementation does not cover every operator; unfolded is still right
    if not isinstance(results, list) or not all(isinstance(r, np.ndarray | np.generic) for r in results):
        return None
    if node.op_type not in _MOVES and any(a.dtype in _KERNELS_FOR for a in (*feeds.values(), *results)):
        return _by_the_runtime(proto, feeds, results, opset) or results
    return results


def _bare(node: ir.Node, arrays: Sequence[np.ndarray | None]) -> onnx.NodeProto:
    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    proto = onnx.helper.make_node(node.op_type, names, [f"y{i}" for i in range(len(node.outputs))])
    proto.attribute.extend(attribute_proto(a) for a in node.attributes.values())
    return proto


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
