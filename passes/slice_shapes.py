"""slice-shapes: sizes are read from where they are, without a detour over a whole shape."""

from __future__ import annotations

from itertools import groupby
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, node_name, only_user, producer
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

_Places = tuple[ir.Value, list[int], tuple[int, ...]]
"""A value, which of its dimensions are read, and the shape of what they are read into."""


class SliceShapes(Pass):
    """Sizes that are known become constants; others that lie side by side are read by one Shape.

    Before: Gather(Shape(x[N,32,H,W]), 1); Slice(Shape(x), 2, 4); Unsqueeze(Gather(Shape(x), 0), 0)
    After:  32; Shape<start = 2, end = 4>(x); Shape<start = 0, end = 1>(x)
    Before: Concat(Shape<end = 1>(x), Shape<start = 1, end = 2>(x), n)
    After:  Concat(Shape<end = 2>(x), n)
    Refuses: a value of unknown rank; sizes that vary and are not side by side; parts of a Concat that
    something else reads too, where nothing would be saved.
    """

    name: ClassVar[str] = "slice-shapes"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(15, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "":
                continue
            if node.op_type == "Concat":
                edit = _joined(node)
                if edit is not None:
                    yield edit
                continue
            found = _read(node)
            if isinstance(found, str):
                yield NearMiss(node_name(node), found)
            elif found is not None:
                yield found


def _read(node: ir.Node) -> Edit | str | None:
    """The edit that reads sizes directly; why not, where the node reads some."""
    taken = _places(node)
    if not isinstance(taken, tuple):
        return taken
    x, places, shape = taken
    assert x.shape is not None
    dims = [x.shape[place] for place in places]
    make = Nodes(node_name(node))
    if all(isinstance(dim, int) for dim in dims):
        if node.outputs[0].is_graph_output():
            return "an output of the graph stays computed"
        made = make.constant(np.asarray(dims, np.int64).reshape(shape), np.int64, "sizes")
        return Edit("known sizes", [node], initializers=[made], replace={node.outputs[0]: made})
    if node.op_type == "Gather" and not shape:
        return None
    if len(shape) != 1 or not places or places != list(range(places[0], places[0] + len(places))):
        return "the sizes that it reads are not side by side"
    made = _range(make, x, places[0], places[-1] + 1)
    return Edit("sizes side by side", [node], make.nodes, replace={node.outputs[0]: made})


def _range(make: Nodes, x: ir.Value, start: int, end: int) -> ir.Value:
    return make.op("Shape", [x], "sizes", dtype=ir.DataType.INT64, shape=[end - start], start=start, end=end)


def _places(node: ir.Node) -> _Places | str | None:
    """Which dimensions of what a node reads; why that is not known, None where it reads none."""
    operand = node.inputs[0] if node.inputs else None
    if node.op_type == "Unsqueeze":
        inner = producer(operand, "Gather")
        found = _places(inner) if inner is not None else None
        if not isinstance(found, tuple) or found[2] != () or len(node.outputs[0].shape or ()) != 1:
            return None
        return found[0], found[1], (1,)
    read = producer(operand, "Shape")
    if read is None or node.op_type not in ("Gather", "Slice"):
        return None
    x = read.inputs[0]
    if x is None or x.shape is None:
        return "the rank of what it reads sizes of is unknown"
    start, end = read.attributes.get_int("start", 0), read.attributes.get_int("end", len(x.shape))
    all_of_it = list(range(len(x.shape)))[start:end]
    if node.op_type == "Slice":
        bounds = [const_of(value) for value in node.inputs[1:]]
        if any(b is None or b.size != 1 for b in bounds) or (len(bounds) == 4 and bounds[3] != 1):
            return "it does not read one row of sizes that is known"
        first, last = (int(b.reshape(-1)[0]) for b in bounds[:2] if b is not None)
        chosen = all_of_it[first:last]
        return x, chosen, (len(chosen),)
    index = const_of(node.inputs[1])
    if index is None or (index >= len(all_of_it)).any() or (index < -len(all_of_it)).any():
        return "which sizes it reads is not known"
    return x, [all_of_it[int(i)] for i in index.reshape(-1)], index.shape


def _joined(node: ir.Node) -> Edit | None:
    """A Concat whose parts that lie side by side in one shape are read as one."""
    parts = [_part(value) for value in node.inputs]
    runs = [[*run] for _, run in groupby(range(len(parts)), _Runs(parts))]
    saved = [node.inputs[index] for run in runs if len(run) > 1 for index in run]
    whole = len(runs) == 1
    if not saved or not (whole or all(v is not None and only_user(v) is node for v in saved)):
        return None
    make = Nodes(node_name(node))
    inputs: list[ir.Value | None] = []
    for run in runs:
        first, last = parts[run[0]], parts[run[-1]]
        if len(run) == 1 or first is None or last is None:
            inputs.append(node.inputs[run[0]])
        else:
            inputs.append(_range(make, first[0], first[1], last[2]))
    made = inputs[0] if whole else make.op("Concat", inputs, "joined", like=node.outputs[0], axis=0)
    assert made is not None
    return Edit("sizes side by side", [node], make.nodes, replace={node.outputs[0]: made})


class _Runs:
    """A key that is the same for parts, by number, each of which goes on where the one before it ends."""

    def __init__(self, parts: list[tuple[ir.Value, int, int] | None]) -> None:
        self._parts, self._key = parts, 0

    def __call__(self, index: int) -> int:
        part, before = self._parts[index], self._parts[index - 1] if index else None
        if part is None or before is None or part[0] is not before[0] or part[1] != before[2]:
            self._key += 1
        return self._key


def _part(value: ir.Value | None) -> tuple[ir.Value, int, int] | None:
    """What a Shape reads: of which value, from where, to where."""
    read = producer(value, "Shape")
    x = read.inputs[0] if read is not None else None
    if read is None or x is None or x.shape is None:
        return None
    rank = len(x.shape)
    chosen = range(rank)[read.attributes.get_int("start", 0) : read.attributes.get_int("end", rank)]
    return (x, chosen.start, chosen.stop) if len(chosen) else None
