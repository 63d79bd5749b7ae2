"""Cuts out of a graph what an edit rewrites, and describes it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.ir import is_random
from graphopt.ir.operators import WEIGHTED_PRODUCTS
from graphopt.verify._cone import Cone, Derived, collect, takes_tensors, upstream
from graphopt.verify._key import Known, key_of
from graphopt.verify._piece import piece_of
from graphopt.verify._text import words_of
from graphopt.verify._uses import Uses, is_looked_up, is_unlimited, uses_of
from graphopt.verify._window import Dim, Leaf, Window, Within, dims_of

if TYPE_CHECKING:
    from graphopt.pipeline import Edit

__all__ = ["cut_out"]


def cut_out(
    model: ir.Model,
    edit: Edit,
    derived: Derived,
    within: Mapping[ir.Value, np.ndarray] = MappingProxyType({}),
    *,
    depth: int = 0,
    reads_since: int = 0,
) -> Window:
    """The window of `edit`, with `depth` layers of the nodes before it; the graph is left as it is.

    Leaves among the values of `within` are fed with no larger magnitudes.
    The edit may depend on what weights hold that were read since `reads_since` (a time of `read_clock`):
    windows with others are not alike. Raises `ValueError` where a part of it cannot stand alone.
    """
    if any(is_random(node, model) for node in (*edit.remove, *edit.insert)):
        raise ValueError("it draws random numbers, which no two runs have in common")
    before, after, uses = _cones(model, edit, derived, depth)
    leaves = list(dict.fromkeys((*before.leaves, *after.leaves)))
    old, new = list(edit.replace), list(edit.replace.values())
    names = {value: f"x{index}" for index, value in enumerate(leaves)}
    opsets = dict(model.opset_imports)
    made = [
        piece_of(model, cone, outputs, names, opsets | ({"": edit.opset} if side and edit.opset else {}))
        for side, (cone, outputs) in enumerate(((before, old), (after, new)))
    ]
    words = words_of((*before.nodes, *after.nodes), (*before.weights, *after.weights))
    described = tuple(_leaf(value, name, edit, within, uses, words) for value, name in names.items())
    outputs = tuple(dims_of(a) or dims_of(b) for a, b in edit.replace.items())
    known = Known(reads_since)
    samples = _samples(edit, names)
    key = key_of(made, (*described, *_digests(samples)), outputs, known)
    new_weights = set(after.weights) - set(before.weights)
    loops = tuple(dict.fromkeys(_steps(node) for node in edit.remove if node.op_type == "Scan"))
    return Window(
        made[0],
        made[1],
        described,
        outputs,
        max((*_sizes((*leaves, *before.weights, *after.weights)), *_terms(before, after)), default=1),
        key,
        known.by_content,
        tuple(dict.fromkeys((*uses.lengths, *_rows(before, after, old)))),
        tuple(uses.numbers),
        tuple(uses.steps),
        uses.adds_up,
        loops,
        tuple(_computed(before, after)),
        all(value.is_graph_input() for value in leaves),
        tuple(_given(model.graph)) if _adapts_floats(edit) else (),
        tuple(sorted({d for v in new_weights for d in (dims_of(v) or ())[:1] if isinstance(d, int)})),
        samples,
    )


def _samples(edit: Edit, names: Mapping[ir.Value, str]) -> dict[str, np.ndarray] | None:
    """By leaf what it is fed with, where the edit says that."""
    if edit.samples is None:
        return None
    return {name: np.asarray(a) for name, a in zip(names.values(), edit.samples([*names]), strict=True)}


def _digests(samples: Mapping[str, np.ndarray] | None) -> Iterator[str]:
    for array in (samples or {}).values():
        yield hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _cones(model: ir.Model, edit: Edit, derived: Derived, depth: int) -> tuple[Cone, Cone, Uses]:
    """What makes the old values and what makes the new ones, and what both do with what they take."""
    around = {n for n in upstream([*edit.remove, *edit.insert], depth) if not is_random(n, model)}
    while True:
        before = collect(list(edit.replace), {*edit.remove, *around}, (), derived)
        after = collect(list(edit.replace.values()), {*edit.insert, *around}, edit.add_inputs, derived)
        leaves = list(dict.fromkeys((*before.leaves, *after.leaves)))
        uses = uses_of(list(dict.fromkeys((*before.nodes, *after.nodes))), leaves)
        # What a shape is made from is computed: few numbers are legal there.
        makers = {p for v in leaves if v in uses.sizes and (p := v.producer()) is not None}
        makers = {n for n in makers if takes_tensors(n) and not is_random(n, model)} - around
        if not makers:
            return before, after, uses
        around |= makers


def _given(graph: ir.Graph) -> Iterator[Leaf]:
    """What a caller feeds, under the names that it has there."""
    for value in graph.inputs:
        if value.dtype is not None and value.name and not value.is_initializer():
            source = None if value.dtype.is_floating_point() else value.name
            yield Leaf(value.name, source, value.dtype, dims_of(value))


def _rows(before: Cone, after: Cone, outputs: Sequence[ir.Value]) -> Iterator[tuple[None, int]]:
    """The rows of new tables, as far as nothing else is of that size."""
    known = {*_sizes((*before.leaves, *after.leaves, *before.weights, *outputs))}
    for table in after.weights:
        rows = (dims_of(table) or (None,))[0]
        if (
            table not in before.weights
            and isinstance(rows, int)
            and rows not in known
            and is_looked_up(table)
        ):
            yield None, rows


def _computed(before: Cone, after: Cone) -> Iterator[tuple[tuple[Dim, ...], float]]:
    for value in dict.fromkeys(v for cone in (before, after) for node in cone.nodes for v in node.outputs):
        dims = dims_of(value)
        if dims and value.dtype is not None:
            yield dims, value.dtype.bitwidth / 8 if value.dtype != ir.DataType.STRING else 8


def _steps(scan: ir.Node) -> Dim:
    """How often a Scan runs its body."""
    last = (scan.attributes.get_ints("scan_input_axes") or (0,))[-1]
    value = scan.inputs[-1]
    dims = None if value is None else dims_of(value)
    return None if dims is None else dims[last]


def _sizes(values: Iterable[ir.Value]) -> list[int]:
    return [d for value in values for d in dims_of(value) or () if isinstance(d, int)]


def _terms(before: Cone, after: Cone) -> Iterator[int]:
    """Of each convolution, how many products one number that it makes is the sum of."""
    for node in dict.fromkeys((*before.nodes, *after.nodes)):
        kind = (node.domain, node.op_type)
        turned = kind == ("", "ConvTranspose")
        if not turned and kind not in WEIGHTED_PRODUCTS:
            continue
        weight = node.inputs[1 if turned else WEIGHTED_PRODUCTS[kind]]
        sizes = [] if weight is None else _sizes([weight])
        if weight is None or len(sizes) != len(dims_of(weight) or ()):
            continue
        yield prod(sizes[2:]) * (sizes[0] // node.attributes.get_int("group", 1) if turned else sizes[1])


def _leaf(
    value: ir.Value,
    name: str,
    edit: Edit,
    within: Mapping[ir.Value, np.ndarray],
    uses: Uses,
    words: tuple[str, ...],
) -> Leaf:
    if value.dtype is None:
        raise ValueError(f"the type of {value.name!r} is unknown")
    # Floats are free, wherever they come from: caches of two layers are the same to a kernel.
    is_source = value.is_graph_input() or value in edit.add_inputs
    free = value.dtype.is_floating_point() and not _adapts_floats(edit)
    source = value.name if is_source and not free else None
    limit = Within.of(within[value]) if value in within else None
    return Leaf(
        name,
        source,
        value.dtype,
        dims_of(value),
        within=limit,
        words=words if value.dtype == ir.DataType.STRING else (),
        picks=tuple(uses.picks.get(value, ())),
        divides=value in uses.divisors,
        sizes=value in uses.sizes,
        declared=uses.declared.get(value),
        anything=is_unlimited(value),
    )


def _adapts_floats(edit: Edit) -> bool:
    """Whether its adapter makes inputs that hold floats: they are what the old ones are made into."""
    made = (value.dtype for value in edit.add_inputs)
    return edit.adapter is not None and any(dtype is not None and dtype.is_floating_point() for dtype in made)
