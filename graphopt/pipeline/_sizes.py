"""Where sizes come from: shapes of inputs, or values, which may say that there is nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from graphopt.families import Assumption
from graphopt.ir import MICROSOFT, from_shapes, used_values
from graphopt.pipeline._context import Context

__all__ = ["assume_not_empty"]

# Operators that find out from values how large their results are, and operands that say how large.
_COUNTING = frozenset(
    {"Compress", "If", "Loop", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"}
    | {"ConcatFromSequence", "OptionalGetElement", "SequenceAt", "SplitToSequence"}
)
_SIZES = {"CenterCropPad": (1,), "ConstantOfShape": (0,), "Expand": (1,), "OneHot": (1,), "Pad": (1,)} | {
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Slice": (1, 2),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
}


def assume_not_empty(
    sizes: Iterable[tuple[ir.Value, int]], what: str, context: Context
) -> list[Assumption] | str:
    """What to assume so that none of the `sizes`, axes of values, is zero; why not, where it may well be.

    Legal calls of a family have no size of zero. In a graph of unknown meaning whoever calls it decides
    about the sizes of inputs, and values decide about others: a detector may find nothing.
    """
    if context.domain is not None:
        return []
    inputs = {d.value for v in context.model.graph.inputs for d in v.shape or () if not isinstance(d, int)}
    names: dict[str, None] = {}
    sums: list[ir.SymbolicDim] = []
    for value, axis in sizes:
        dim = value.shape[axis] if value.shape is not None else None
        if isinstance(dim, int):
            continue
        symbols = dim.free_symbols() if dim is not None and dim.value is not None else frozenset()
        if symbols and symbols <= inputs and dim is not None:
            names |= {s: None for s in sorted(symbols) if not _is_positive(dim, {s: 0}, symbols)}
            sums.append(dim)
        elif _counted(value, context):
            return f"axis {axis} of {value.name!r} is as long as values say, and {what} of nothing fails"
        else:  # nobody knows what follows from what: no size of what it is made from is zero
            names |= dict.fromkeys(sorted(_sizes_behind(value) | symbols))
    for dim in sums:
        symbols = dim.free_symbols()
        if not _is_positive(dim, {s: 0 for s in symbols if s not in names}, symbols):
            names |= dict.fromkeys(sorted(symbols))
        if not _is_positive(dim, {}, symbols):
            return f"size {dim.value} may be zero, and {what} of nothing fails"
    if not names:
        return []
    said = ", ".join(names)
    return [Assumption(f"not-empty:{said}", f"{said}: none of these sizes is zero", not_empty=tuple(names))]


def _is_positive(dim: ir.SymbolicDim, given: dict[str, int], symbols: Iterable[str]) -> bool:
    """Whether it is more than zero where all symbols but the `given` ones are 1."""
    found = dim.evaluate(dict.fromkeys(symbols, 1) | given)
    return isinstance(found, int) and found > 0


def _counted(value: ir.Value, context: Context) -> bool:
    """Whether a size of `value`, or of what it is made from, is found from values."""
    key = ("counted", value)
    if key not in context.memo:
        context.memo[key] = any(map(_counts, _before(value)))
    return bool(context.memo[key])


def _before(value: ir.Value) -> Iterator[ir.Node]:
    seen: set[ir.Node] = set()
    stack = [value.producer()]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            stack.extend(v.producer() for v in used_values(node))


def _sizes_behind(value: ir.Value) -> set[str]:
    """Names of the sizes of graph inputs that `value` is computed from, not those that only shapes are of."""
    found: set[str] = set()
    seen: set[ir.Value] = set()
    stack = [value]
    while stack:
        top = stack.pop()
        if top in seen:
            continue
        seen.add(top)
        node = top.producer()
        if node is not None and (node.domain or node.op_type not in ("Shape", "Size")):
            stack.extend(used_values(node))
        elif top.is_graph_input():
            found |= {d.value for d in top.shape or () if not isinstance(d, int) and d.value is not None}
    return found


def _counts(node: ir.Node) -> bool:
    if node.domain not in ("", MICROSOFT) or node.op_type in _COUNTING:
        return True
    operands = [node.inputs[i] for i in _SIZES.get(node.op_type, ()) if i < len(node.inputs)]
    return not node.domain and not all(map(from_shapes, operands))
