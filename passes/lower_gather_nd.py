"""lower-gather-nd: all places of a tensor in their order, picked one by one, are the tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import const_of, node_name, producer, same_dim, scalar_of
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

_NO_PARTS = "its places are not put together from one part for each axis"


class LowerGatherNd(Pass):
    """GatherND of every place in order becomes Unsqueeze.

    Before: GatherND(x[B, S], Concat(Range(0, B, 1) as [B, 1, 1, S, 1], Range(0, S, 1) as [B, 1, 1, S, 1]))
    After:  Unsqueeze(x, [1, 2])
    So torch writes `mask[batch, key]` of transformers' masks. Runtimes have no kernel of GatherND for bool.
    Refuses: places that do not run from 0 by 1 over a whole axis of x, each along an axis of its own, in
    order; sizes that are not known to be the same.
    """

    name: ClassVar[str] = "lower-gather-nd"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "" or node.op_type != "GatherND":
                continue
            axes = _new_axes(node)
            if isinstance(axes, str):
                yield NearMiss(node_name(node), axes)
                continue
            make, old = Nodes(node_name(node)), node.outputs[0]
            where = make.constant(axes, "int64", "axes")
            y = make.op("Unsqueeze", [node.inputs[0], where], "unsqueezed", like=old)
            yield Edit(
                "every place in order",
                remove=[node],
                insert=make.nodes,
                initializers=make.initializers,
                replace={old: y},
            )


def _new_axes(node: ir.Node) -> list[int] | str:
    """Which axes of the result x does not have, all of size 1; or why it is not x."""
    x, indices, y = node.inputs[0], node.inputs[1], node.outputs[0]
    whole = producer(indices, "Concat")
    if whole is None or x is None or x.shape is None or y.shape is None:
        return _NO_PARTS
    if len(whole.inputs) != len(x.shape) or node.attributes.get_int("batch_dims", 0) != 0:
        return _NO_PARTS
    if whole.attributes.get_int("axis", 0) not in (-1, len(y.shape)):
        return _NO_PARTS
    runs = [_run_of(part) for part in whole.inputs]
    along = [run.axis for run in runs if run is not None]
    if len(along) != len(runs) or along != sorted(set(along)):
        return "a part does not run from 0 by 1 along an axis of its own, in order"
    for run, size in zip(runs, x.shape, strict=True):
        if run is None or not (same_dim(run.size, size) and same_dim(size, y.shape[run.axis])):
            return "a part is not known to run over a whole axis"
    rest = [axis for axis in range(len(y.shape)) if axis not in along]
    return rest if all(y.shape[axis] == 1 for axis in rest) else "a place is picked several times"


@dataclass(frozen=True)
class _Run:
    """Numbers from 0 by 1, as many as `size`, along an axis of the result."""

    axis: int
    size: ir.SymbolicDim | int


def _run_of(part: ir.Value | None) -> _Run | None:
    """That of a part [..., 1]."""
    last = producer(part, "Unsqueeze")
    if last is None or part is None or part.shape is None:
        return None
    axes = const_of(last.inputs[1])
    if axes is None or axes.tolist() not in ([-1], [len(part.shape) - 1]):
        return None
    value = last.inputs[0]
    expand = producer(value, "Expand")
    value = value if expand is None else expand.inputs[0]
    if value is None or value.shape is None:
        return None
    wide = [axis for axis, size in enumerate(value.shape) if size != 1]
    if len(wide) != 1:
        return None
    rank = len(value.shape)
    while (unsqueeze := producer(value, "Unsqueeze")) is not None:
        value = unsqueeze.inputs[0]
    numbers = producer(value, "Range")
    if numbers is None or (scalar_of(numbers.inputs[0]), scalar_of(numbers.inputs[2])) != (0, 1):
        return None
    size = _counted(numbers.inputs[1])
    return None if size is None else _Run(wide[0] + len(part.shape) - 1 - rank, size)


def _counted(count: ir.Value | None) -> ir.SymbolicDim | int | None:
    """The size that a scalar is: of one axis of some value."""
    number = scalar_of(count)
    if number is not None:
        return int(number)
    squeeze = producer(count, "Squeeze")
    shape = producer(squeeze.inputs[0], "Shape") if squeeze is not None else None
    value = shape.inputs[0] if shape is not None else None
    if shape is None or value is None or value.shape is None:
        return None
    end = shape.attributes.get_int("end", len(value.shape))
    dims = list(value.shape)[shape.attributes.get_int("start", 0) : end]
    return dims[0] if len(dims) == 1 else None
