"""merge-parts: values that are cut and put together in several steps are so in one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import consumers, is_output, node_name, only_user, producer, static_dim
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

from ._slices import Cut, cut_of


class MergeParts(Pass):
    """Chains of Concat, Split and Slice become one of them, or nothing.

    Before: Concat(Concat(a, b), c), along one axis
    After:  Concat(a, b, c)
    Before: Split(Concat(a, b), sizes of a and b)
    After:  a, b
    Before: Slice(Slice(x, 2, 10), 1, 4) along one axis, or along two
    After:  Slice(x, 3, 6), or one Slice along both
    Before: Slice(x[N,8], 0, 4), Slice(x, 4, 8)
    After:  Split(x, [4, 4])
    Refuses: an inner value that something else uses; sizes, axes or bounds that are not known numbers; slices
    that leave something of x out or overlap.
    """

    name: ClassVar[str] = "merge-parts"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        rules = {"Concat": _flat, "Split": _parts, "Slice": _slice}
        for node in graph:
            latest: ir.Node | None = node if node.domain == "" and node.graph is graph else None
            while latest is not None and latest.op_type in rules:
                found = rules[latest.op_type](latest)
                if isinstance(found, str):
                    yield NearMiss(node_name(latest), found)
                if not isinstance(found, Edit):
                    break
                outcome = yield found
                again = [made for made in found.insert if made.op_type == latest.op_type]
                latest = again[0] if again and outcome is Outcome.APPLIED else None


def _flat(node: ir.Node) -> Edit | str | None:
    """A Concat with the parts of each of its parts that is a Concat of the same axis."""
    axis = _axis(node)
    inputs: list[ir.Value | None] = []
    gone: list[ir.Node] = []
    for value in node.inputs:
        inner = producer(value, "Concat")
        if inner is None or axis is None or _axis(inner) != axis or inner.graph is not node.graph:
            inputs.append(value)
        elif value is None or only_user(value) is not node or list(node.inputs).count(value) > 1:
            return "a part of it has another use"
        else:
            inputs += inner.inputs
            gone.append(inner)
    if not gone:
        return None
    make = Nodes(node_name(node))
    made = make.op("Concat", inputs, "of-all", like=node.outputs[0], axis=axis)
    return Edit("Concat of Concat", [*gone, node], make.nodes, replace={node.outputs[0]: made})


def _axis(node: ir.Node) -> int | None:
    """The axis of a Concat, from the front."""
    axis = node.attributes["axis"].as_int()
    rank = next(
        (len(v.shape) for v in (*node.outputs, *node.inputs) if v is not None and v.shape is not None), None
    )
    return axis if axis >= 0 else None if rank is None else axis + rank


def _parts(node: ir.Node) -> Edit | str | None:
    """The parts of a Concat, where a Split takes it apart again."""
    whole = producer(node.inputs[0], "Concat")
    if whole is None:
        return None
    axis = _axis(whole)
    own = node.attributes.get_int("axis", 0)
    rank = len(node.outputs[0].shape or ())
    sizes = [static_dim(value, axis) for value in whole.inputs] if axis is not None else []
    if (
        axis is None
        or None in sizes
        or sizes != [static_dim(v, own) for v in node.outputs]
        or own % max(rank, 1) != axis
    ):
        return "it does not take apart what was put together"
    if any(map(is_output, node.outputs)):
        return "a part is an output"
    replace = {old: new for old, new in zip(node.outputs, whole.inputs, strict=True) if new is not None}
    return Edit("Split of Concat", [node], replace=replace)


def _slice(node: ir.Node) -> Edit | str | None:
    cut = cut_of(node)
    if cut is None:
        return None
    inner = producer(cut.value, "Slice")
    before = cut_of(inner) if inner is not None else None
    if (
        inner is not None
        and before is not None
        and inner.graph is node.graph
        and only_user(inner.outputs[0]) is node
    ):
        merged = before.then(cut)
        return merged if isinstance(merged, str) else _cut(node, inner, merged)
    return _split(node, cut)


def _cut(node: ir.Node, inner: ir.Node, merged: Cut) -> Edit:
    make = Nodes(node_name(node))
    rows = zip(*((axis, *bounds) for axis, bounds in merged.bounds.items()), strict=True)
    axes, starts, ends = (
        make.constant(row, np.int64, label)
        for row, label in zip(rows, ("axes", "starts", "ends"), strict=True)
    )
    made = make.op("Slice", [merged.value, starts, ends, axes], "of-both", like=node.outputs[0])
    return Edit(
        "Slice of Slice",
        [inner, node],
        make.nodes,
        initializers=make.initializers,
        replace={node.outputs[0]: made},
    )


def _split(node: ir.Node, cut: Cut) -> Edit | str | None:
    """One Split of a value of which each Slice takes a part along one axis; asked of the first part's."""
    cuts = {
        user: found
        for user in consumers(cut.value)
        if (found := cut_of(user)) is not None and user.graph is node.graph
    }
    along = {
        user: found for user, found in cuts.items() if found.value is cut.value and found.axis == cut.axis
    }
    size = static_dim(cut.value, cut.axis) if cut.axis is not None else None
    if size is None or len(along) < 2 or cut.axis is None:
        return None
    order = sorted(along, key=lambda user: along[user].within(size))
    if order[0] is not node:
        return None
    bounds = [along[user].within(size) for user in order]
    ends = [0, *(end for _, end in bounds)]
    if [start for start, _ in bounds] != ends[:-1] or ends[-1] != size or any(a >= b for a, b in bounds):
        return "its slices leave something out, or overlap"
    make = Nodes(node_name(node))
    sizes = make.constant([end - start for start, end in bounds], np.int64, "sizes")
    made = make.many("Split", [cut.value, sizes], "part", [user.outputs[0] for user in order], axis=cut.axis)
    return Edit(
        f"Split into {len(order)}",
        order,
        make.nodes,
        initializers=make.initializers,
        replace={user.outputs[0]: new for user, new in zip(order, made, strict=True)},
        before=_first(node.graph, order),
    )


def _first(graph: ir.Graph | ir.Function | None, nodes: list[ir.Node]) -> ir.Node:
    wanted = set(nodes)
    return next(node for node in graph or nodes if node in wanted)
