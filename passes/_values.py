"""The way of values through an attention, from the product that makes them to those that read the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.interface import Adapter
from graphopt.ir import consumers, is_output, only_user, static_dim
from graphopt.pipeline import Bridge, Edit, Nodes

from ._columns import Change, Columns, again, columns_of
from ._heads import rows_after, swaps_heads
from ._products import Product, products_of, used_elsewhere

__all__ = ["Coordinates", "ValuePath", "in_other_coordinates", "value_path"]

_VALUE, _PAST, _PRESENT = 2, 5, 2  # Attention's inputs V and past_value, its output present_value


@dataclass(frozen=True)
class Coordinates:
    """Others for the values of an attention, called `what`: how rows of the weight that makes values change,
    and columns of those that read the result; a cache [batch, heads, length, D] `there` and `back`. Edits
    are checked on caches up to `within`, if it is given.
    """

    what: str
    values: Change
    readers: Change
    there: Callable[[Nodes, ir.Value], ir.Value]
    back: Callable[[Nodes, ir.Value, str], ir.Value]
    adapter: Adapter | None
    within: float | None = None


@dataclass(frozen=True)
class ValuePath:
    """`columns`, after `before`, are the values of `attention`; `readers` read its result after `behind`."""

    columns: Columns
    before: Sequence[ir.Node]
    attention: ir.Node
    behind: Sequence[ir.Node]
    readers: Sequence[Product]
    size: int

    @property
    def past(self) -> ir.Value | None:
        return self.attention.inputs[_PAST] if len(self.attention.inputs) > _PAST else None

    @property
    def present(self) -> ir.Value | None:
        return self.attention.outputs[_PRESENT] if len(self.attention.outputs) > _PRESENT else None


def value_path(attention: ir.Node) -> ValuePath | str:
    value = attention.inputs[_VALUE]
    turn = value.producer() if value is not None else None
    size = static_dim(value, 3)
    if value is None or turn is None or not swaps_heads(turn) or turn.inputs[0] is None or size is None:
        return "its values are not heads of known size, moved in front of the sequence"
    split = turn.inputs[0].producer()
    if split is None or split.op_type != "Reshape" or split.domain != "" or split.inputs[0] is None:
        return "its values are not split into heads by a Reshape"
    if only_user(value) is None or only_user(turn.inputs[0]) is None:
        return "its values are for others, too"
    width = static_dim(split.inputs[0], -1)
    if width is None or len(split.inputs[0].shape or ()) != 3 or width % size:
        return "its values are not split into heads by a Reshape"
    columns = columns_of(split.inputs[0])
    if isinstance(columns, str):
        return columns
    joined = rows_after(attention.outputs[0])
    if joined is None or joined.inputs[0] is None:
        return "its result is for others, too, or its heads are not joined"
    readers = products_of(joined.outputs[0])
    if isinstance(readers, str):
        return readers
    back = joined.inputs[0].producer()
    assert back is not None
    reason = used_elsewhere([columns.product, *readers])
    found = ValuePath(columns, (split, turn), attention, (back, joined), readers, size)
    return reason or _unfit_cache(found) or found


def _unfit_cache(found: ValuePath) -> str | None:
    past, present = found.past, found.present
    if present is not None and (consumers(present) or (is_output(present) and past is None)):
        return "its values are for others, too"
    if past is None:
        return None
    if not past.is_graph_input() or past.is_initializer() or present is None or not is_output(present):
        return "its cache of values is no input and output of the graph"
    if any(user is not found.attention and user.op_type != "Shape" for user in consumers(past)):
        return "its cache of values is used elsewhere, too"
    return None


def in_other_coordinates(found: ValuePath, new: Coordinates, described: str) -> Edit:
    """The same attention on values that are changed as `new` says."""
    attention, past = found.attention, found.past
    make = Nodes(attention.name or "attention")
    made = again([found.columns], make, new.values, new.what)
    taken = None if past is None else ir.Value(name=past.name, shape=past.shape, type=past.type)
    if past is not None and taken is not None:
        made[past] = taken
    for node in (*found.before, attention, *found.behind):
        inputs = [made.get(value, value) if value is not None else None for value in node.inputs]
        results = make.copy(node, inputs, f"{node.name}/{new.what}")
        for old, result in zip(node.outputs, results, strict=True):
            result.shape = old.shape
        made |= dict(zip(node.outputs, results, strict=True))
    x = made[found.behind[-1].outputs[0]]
    for product in found.readers:
        made[product.output] = product.again(make, x, new.readers(product.rows), new.what)
    removed = [*found.columns.removed, *found.before, attention, *found.behind]
    removed += [node for product in found.readers for node in product.removed]
    inner = {found.columns.value, *(v for node in (*found.before, *found.behind) for v in node.outputs)}
    inner.add(attention.outputs[0])
    replace = {old: made[old] for old in made if old not in inner and (old.uses() or is_output(old))}
    return Edit(
        described,
        remove=list(dict.fromkeys(removed)),
        insert=make.nodes,
        initializers=make.initializers,
        replace=replace,
        before=found.behind[-1],
        add_inputs=[] if taken is None else [taken],
        drop_inputs=[] if past is None else [past],
        adapter=None if past is None or found.present is None else new.adapter,
        bridge=None if taken is None else lambda: _bridge(found, made, new),
    )


def _bridge(found: ValuePath, made: dict[ir.Value, ir.Value], new: Coordinates) -> Bridge:
    """The changed form from caches as they were to caches as they were."""
    past, present = found.past, found.present
    assert past is not None
    assert present is not None
    make = Nodes(f"{found.attention.name}/check")
    fed = new.there(make, past)
    held, result = new.back(make, fed, "held"), new.back(make, made[present], "result")
    within = {} if new.within is None else {past: np.full((1, 1, 1, 1), new.within)}
    return Bridge(make.nodes, {made[past]: fed}, {past: held, present: result}, within)
