"""simplify-shapes: shape operands that can be constants become constants."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, from_shapes, initializer, producer
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    OpsetRange,
    Outcome,
    Pass,
)


class SimplifyShapes(Pass):
    """Reshape's computed shape becomes a constant; a Reshape or Transpose of another is merged with it.

    Before: Reshape(x[batch,sequence,256], Concat(Shape(x)[0], Shape(x)[1], -1, 32))
    After:  Reshape(x, [0, 0, -1, 32])
    A leading dimension equal to the input's in the same place is written 0, one more unknown is written -1.
    Before: Reshape(Reshape(x, a), b), as of Flatten, Squeeze, Unsqueeze; Transpose(Transpose(x, p), q)
    After:  Reshape(x, b); Transpose(x, q after p)
    Before: Unsqueeze(Unsqueeze(x, 0), 2), not in float16
    After:  Unsqueeze(x, 0 and 2)
    Before: Range(a, b[1], c)
    After:  Range(a, Squeeze(b), c): the operator is of numbers, and onnxruntime refuses vectors that it finds
            to be constant
    Refuses: two dimensions that neither are constant nor stand where the input has the same symbol; a
    dimension of size zero; a shape that an input says, and not the shapes of values; in a graph of unknown
    meaning a -1 beside a 0, where the source names the size: nobody can infer it if the other one is zero.
    """

    name: ClassVar[str] = "simplify-shapes"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(14, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain == "" and node.op_type == "Range" and any(map(_is_one_in_a_vector, node.inputs)):
                yield _of_numbers(node)
                continue
            latest: ir.Node | None = node
            while latest is not None and (new := _simpler(latest, context)) is not None:
                summary, inputs, attributes, initializers = new
                made = ir.Node(
                    "",
                    latest.op_type,
                    inputs,
                    attributes=attributes,
                    num_outputs=1,
                    name=latest.name,
                )
                outcome = yield Edit(
                    summary,
                    remove=[latest],
                    insert=[made],
                    initializers=initializers,
                    replace={latest.outputs[0]: made.outputs[0]},
                )
                latest = made if outcome is Outcome.APPLIED else None
            reason = _computed(node) if latest is node else None
            if reason is not None:
                yield NearMiss(node.name or node.op_type, reason)


def _is_one_in_a_vector(value: ir.Value | None) -> bool:
    return value is not None and value.shape is not None and list(value.shape) == [1]


def _of_numbers(node: ir.Node) -> Edit:
    make = Nodes(f"{node.outputs[0].name}/of_numbers")
    inputs = [
        make.op("Squeeze", [value], f"number{index}", dtype=value.dtype, shape=[])
        if value is not None and _is_one_in_a_vector(value)
        else value
        for index, value in enumerate(node.inputs)
    ]
    made = make.op("Range", inputs, "range", like=node.outputs[0])
    return Edit("Range of numbers", remove=[node], insert=make.nodes, replace={node.outputs[0]: made})


_KEEP_ORDER = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_New = tuple[str, list[ir.Value | None], list[ir.Attr], list[ir.Value]]


def _simpler(node: ir.Node, context: Context) -> _New | None:
    if node.domain != "":
        return None
    match node.op_type:
        case "Reshape":
            return _constant_shape(node, context) or _merged_reshape(node, context)
        case "Transpose":
            return _merged_transpose(node)
        case "Unsqueeze":
            return _merged_unsqueeze(node)
    return None


def _is_symbol(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, ir.SymbolicDim) and dim.value is not None


def _constant_shape(node: ir.Node, context: Context) -> _New | None:
    x, target = node.inputs[0], node.inputs[1]
    if x is None or target is None or const_of(target) is not None or not from_shapes(target):
        return None
    dims = _dims(x, node.outputs[0], context, infers=_infers(target))
    if dims is None:
        return None
    shape = initializer(f"{node.name}/shape", ir.tensor(np.asarray(dims, np.int64)))
    return "constant shape", [x, shape], [ir.AttrInt64("allowzero", 0)], [shape]


def _computed(node: ir.Node) -> str | None:
    """Why the shape of a Reshape stays computed, where it is."""
    x, target = (*node.inputs, None, None)[:2]
    if node.op_type != "Reshape" or node.domain != "" or target is None or const_of(target) is not None:
        return None
    if not from_shapes(target):
        return "its shape does not follow from shapes alone"
    if any(
        value is not None and value.shape is not None and 0 in value.shape for value in (x, *node.outputs)
    ):
        return "one of its sizes is zero, which a constant shape cannot say"
    return "more than one size of its result is not known to be one of its operand's"


def _infers(target: ir.Value) -> bool:
    """Whether the shape `target` has a -1 that is written down."""
    concat = producer(target, "Concat")
    parts = [target] if concat is None else concat.inputs
    return any(bool(np.any(array == -1)) for array in map(const_of, parts) if array is not None)


def _dims(x: ir.Value, y: ir.Value, context: Context, *, infers: bool) -> list[int] | None:
    """The shape that makes `y` of `x`, None where there is none; `infers`: it has a -1 as it is."""
    if x.shape is None or y.shape is None or any(d == 0 for d in (*x.shape, *y.shape)):
        return None
    dims = [
        d if isinstance(d, int) else 0 if _is_symbol(d) and i < len(x.shape) and x.shape[i] == d else -1
        for i, d in enumerate(y.shape)
    ]
    untold = -1 in dims and 0 in dims and not infers and context.domain is None
    return dims if dims.count(-1) <= 1 and not untold else None


def _merged_reshape(node: ir.Node, context: Context) -> _New | None:
    inner = node.inputs[0].producer() if node.inputs[0] is not None else None
    target = node.inputs[1]
    if inner is None or inner.op_type not in _KEEP_ORDER or inner.domain != "" or target is None:
        return None
    x = inner.inputs[0]
    dims = const_of(target)
    if x is None or dims is None or node.attributes.get_int("allowzero", False):
        return None
    if not (dims == 0).any():
        return f"Reshape of {inner.op_type}", [x, target], [ir.AttrInt64("allowzero", 0)], []
    new = _dims(x, node.outputs[0], context, infers=bool((dims == -1).any()))
    if new is None:
        return None
    shape = initializer(f"{node.name}/shape", ir.tensor(np.asarray(new, np.int64)))
    return f"Reshape of {inner.op_type}", [x, shape], [ir.AttrInt64("allowzero", 0)], [shape]


def _merged_transpose(node: ir.Node) -> _New | None:
    inner = node.inputs[0].producer() if node.inputs[0] is not None else None
    if inner is None or inner.op_type != "Transpose" or inner.domain != "":
        return None
    first, second = inner.attributes.get_ints("perm"), node.attributes.get_ints("perm")
    if first is None or second is None:
        return None
    return (
        "Transpose of Transpose",
        [inner.inputs[0]],
        [ir.AttrInt64s("perm", [first[i] for i in second])],
        [],
    )


def _merged_unsqueeze(node: ir.Node) -> _New | None:
    inner = producer(node.inputs[0], "Unsqueeze")
    rank = None if node.outputs[0].shape is None else len(node.outputs[0].shape)
    if inner is None or rank is None or node.outputs[0].dtype is ir.DataType.FLOAT16:
        return None  # onnxruntime rounds between two, and computes one among others in float32
    first, second = const_of(inner.inputs[1]), const_of(node.inputs[1])
    if first is None or second is None:
        return None
    last = {int(axis) % rank for axis in second}
    rest = [axis for axis in range(rank) if axis not in last]
    axes = sorted(last | {rest[int(axis) % len(rest)] for axis in first})
    value = initializer(f"{node.name}/axes", ir.tensor(np.asarray(axes, np.int64)))
    return "Unsqueeze of Unsqueeze", [inner.inputs[0], value], [], [value]
