"""The piece of a graph that an edit rewrites, cut out as two models that can be run side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.ir import (
    Expr,
    Transposed,
    holds_map,
    is_random,
    lazy,
    simplified,
    subgraphs_of,
    to_proto,
    used_values,
)
from graphopt.ir.operators import TRANSPOSING_PRODUCT
from graphopt.verify._key import Known, key_of
from graphopt.verify._text import words_of
from graphopt.verify._uses import Uses, is_looked_up, is_unlimited, uses_of

if TYPE_CHECKING:
    from graphopt.pipeline import Edit

__all__ = ["Derived", "Leaf", "Piece", "Weight", "Window", "cut_out"]

Dim = int | str | None

_IR_VERSION = 10
_INLINE = 256
_AS_INPUT = 256 << 10
_TABLE = 4096


@dataclass(frozen=True)
class Leaf:
    """A value that a window takes from outside: `name` in its models, `source` if an integral graph input, or
    any that an adapter has a say in.

    `dims` are sizes and names of what varies; None where the rank is unknown. Integers are `below` a bound
    if there is one, because they choose among as many rows. Floats stay `within` magnitudes if there are any.
    Text is drawn from the `words` that the window holds, too.
    What it is for, if integral: it `picks` places of axes of these sizes, it `divides`, or it `sizes`
    something, a value with `declared` dims if those are known. `anything`: nothing before it limits what it
    may hold.
    """

    name: str
    source: str | None
    dtype: ir.DataType
    dims: tuple[Dim, ...] | None
    below: int | None = None
    within: Within | None = None
    words: tuple[str, ...] = ()
    picks: tuple[Dim, ...] = ()
    divides: bool = False
    sizes: bool = False
    declared: tuple[Dim, ...] | None = None
    anything: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class Within:
    """Largest magnitudes, row by row, of an array of this shape that broadcasts to the values it is for."""

    shape: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, array: np.ndarray) -> Within:
        return cls(array.shape, tuple(map(float, array.reshape(-1))))

    def array(self) -> np.ndarray:
        return np.asarray(self.values).reshape(self.shape)


@dataclass(frozen=True)
class Weight:
    """A weight of a piece; `fed` if it may be an input instead, which saves a copy."""

    expr: Expr
    fed: bool


@dataclass(frozen=True)
class Piece:
    """One side of a window: a serialized model without its larger weights, and these by name."""

    model: bytes
    weights: Mapping[str, Weight]


@dataclass(frozen=True)
class Window:
    """What an edit takes away and what it puts there, as functions of the same leaves.

    `outputs` are the dims of the values that must agree, in order; both models call them y0, y1, …. `key` is
    equal for windows that differ only in which weights of the source they use; `by_content` says that what
    some of them hold counts too. `lengths` are integers at which something may happen along an axis, with the
    axis' name where it is known; the rows of new tables are among them. `numbers` are those that values are
    compared or computed with, and `steps` those that values are rounded to. `longest` is the longest sum in
    them; a loop that the edit takes away adds up so many terms in each step, and `loops` are the numbers of
    steps. `adds_up`: one value may be made of many. `values`: dims and bytes an element of all that is
    computed. `closed`: all leaves are inputs of the model, so that what it is fed with is a call of the whole
    model. `given` are the model's inputs as they are before the edit, where its adapter makes new ones of
    them. `tables` are the lengths of weights that only the replacement has.
    """

    before: Piece
    after: Piece
    leaves: tuple[Leaf, ...]
    outputs: tuple[tuple[Dim, ...] | None, ...]
    longest: int
    key: str
    by_content: bool = False
    lengths: tuple[tuple[str | None, int], ...] = ()
    numbers: tuple[float, ...] = ()
    steps: tuple[float, ...] = ()
    adds_up: bool = True
    loops: tuple[Dim, ...] = ()
    values: tuple[tuple[tuple[Dim, ...], float], ...] = ()
    closed: bool = False
    given: tuple[Leaf, ...] = ()
    tables: tuple[int, ...] = ()

    @property
    def weight_bytes(self) -> int:
        """What the larger weights of the two pieces take, together."""
        return sum(w.expr.nbytes for piece in (self.before, self.after) for w in piece.weights.values())


class Derived:
    """Which values follow from integer and boolean inputs, shapes and small constants alone.

    Masks, positions and lengths are such values: pieces are fed with what they are made from, because not
    every mask is a legal one. The answer for a value is kept, so it is of use only while one pass edits.
    """

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._known: dict[ir.Value, bool] = {}

    def __call__(self, value: ir.Value) -> bool:
        stack = [value]
        while stack:
            top = stack[-1]
            if top in self._known:
                stack.pop()
                continue
            node = top.producer()
            if node is None:
                self._known[top] = _is_control(top)
            elif node.op_type in ("Shape", "Size") and node.domain == "":
                self._known[top] = True
            elif any(True for _ in subgraphs_of(node)) or is_random(node, self._model):
                self._known[top] = False
            else:
                inputs = [v for v in node.inputs if v is not None]
                if any(self._known.get(v) is False for v in inputs):
                    self._known[top] = False
                elif waiting := [v for v in inputs if v not in self._known]:
                    stack.extend(waiting)
                    continue
                else:
                    self._known[top] = True
            stack.pop()
        return self._known[value]


def _is_control(value: ir.Value) -> bool:
    tensor = value.const_value
    if value.is_initializer() and tensor is not None:
        return not tensor.dtype.is_floating_point() or prod(tensor.shape.numpy()) <= _TABLE
    dtype = value.dtype
    return value.is_graph_input() and dtype is not None and (dtype.is_integer() or dtype == ir.DataType.BOOL)


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
    around = {n for n in _upstream([*edit.remove, *edit.insert], depth) if not is_random(n, model)}
    old, new = list(edit.replace), list(edit.replace.values())
    while True:
        before = _collect(old, {*edit.remove, *around}, (), derived)
        after = _collect(new, {*edit.insert, *around}, edit.add_inputs, derived)
        leaves = list(dict.fromkeys((*before.leaves, *after.leaves)))
        uses = uses_of(list(dict.fromkeys((*before.nodes, *after.nodes))), leaves)
        # What a shape is made from is computed: few numbers are legal there.
        makers = {p for v in leaves if v in uses.sizes and (p := v.producer()) is not None}
        makers = {n for n in makers if _takes_tensors(n) and not is_random(n, model)} - around
        if not makers:
            break
        around |= makers
    names = {value: f"x{index}" for index, value in enumerate(leaves)}
    opsets = dict(model.opset_imports)
    made = [
        _piece(model, cone, outputs, names, opsets | ({"": edit.opset} if side and edit.opset else {}))
        for side, (cone, outputs) in enumerate(((before, old), (after, new)))
    ]
    words = words_of((*before.nodes, *after.nodes), (*before.weights, *after.weights))
    described = tuple(_leaf(value, name, edit, within, uses, words) for value, name in names.items())
    outputs = tuple(_dims(a) or _dims(b) for a, b in edit.replace.items())
    known = Known(reads_since)
    key = key_of(made, described, outputs, known)
    new_weights = set(after.weights) - set(before.weights)
    loops = tuple(dict.fromkeys(_steps(node) for node in edit.remove if node.op_type == "Scan"))
    return Window(
        made[0],
        made[1],
        described,
        outputs,
        max(_sizes((*leaves, *before.weights, *after.weights)), default=1),
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
        tuple(sorted({d for v in new_weights for d in (_dims(v) or ())[:1] if isinstance(d, int)})),
    )


def _given(graph: ir.Graph) -> Iterator[Leaf]:
    """What a caller feeds, under the names that it has there."""
    for value in graph.inputs:
        if value.dtype is not None and value.name and not value.is_initializer():
            source = None if value.dtype.is_floating_point() else value.name
            yield Leaf(value.name, source, value.dtype, _dims(value))


def _rows(before: _Cone, after: _Cone, outputs: Sequence[ir.Value]) -> Iterator[tuple[None, int]]:
    """The rows of new tables, as far as nothing else is of that size."""
    known = {*_sizes((*before.leaves, *after.leaves, *before.weights, *outputs))}
    for table in after.weights:
        rows = (_dims(table) or (None,))[0]
        if (
            table not in before.weights
            and isinstance(rows, int)
            and rows not in known
            and is_looked_up(table)
        ):
            yield None, rows


def _computed(before: _Cone, after: _Cone) -> Iterator[tuple[tuple[Dim, ...], float]]:
    for value in dict.fromkeys(v for cone in (before, after) for node in cone.nodes for v in node.outputs):
        dims = _dims(value)
        if dims and value.dtype is not None:
            yield dims, value.dtype.bitwidth / 8 if value.dtype != ir.DataType.STRING else 8


def _steps(scan: ir.Node) -> Dim:
    """How often a Scan runs its body."""
    last = (scan.attributes.get_ints("scan_input_axes") or (0,))[-1]
    value = scan.inputs[-1]
    dims = None if value is None else _dims(value)
    return None if dims is None else dims[last]


def _sizes(values: Iterable[ir.Value]) -> list[int]:
    return [d for value in values for d in _dims(value) or () if isinstance(d, int)]


def _upstream(nodes: Iterable[ir.Node], depth: int) -> set[ir.Node]:
    found: set[ir.Node] = set()
    layer = set(nodes)
    for _ in range(depth):
        makers = {p for node in layer for v in used_values(node) if (p := v.producer()) is not None}
        layer = {node for node in makers - found if _takes_tensors(node)}
        found |= layer
    return found


def _takes_tensors(node: ir.Node) -> bool:
    """Whether arrays can be made for all that the node takes: not for a sequence."""
    return all(value.dtype is not None for value in used_values(node))


@dataclass
class _Cone:
    nodes: list[ir.Node]
    leaves: dict[ir.Value, None]
    weights: dict[ir.Value, None]


def _collect(
    outputs: Sequence[ir.Value], own: set[ir.Node], fed: Sequence[ir.Value], derived: Derived
) -> _Cone:
    """Nodes that make `outputs`, in topological order: those of `own`, and what makes derived values.

    `fed` are values that will be inputs of the graph.
    """
    cone = _Cone([], {}, {})
    visited: set[ir.Node] = set()

    def enter(value: ir.Value) -> ir.Node | None:
        node = value.producer()
        if node is not None and (node in own or derived(value)):
            return node
        if value in fed:
            cone.leaves[value] = None
        elif value.is_initializer() and not value.is_graph_input():
            cone.weights[value] = None
        elif node is not None or value.is_graph_input() or value.graph is not None:
            cone.leaves[value] = None
        elif value.const_value is not None:
            cone.weights[value] = None
        else:
            raise ValueError(f"value {value.name!r} comes from nowhere")
        return None

    stack = [(node, False) for value in reversed(outputs) if (node := enter(value)) is not None]
    while stack:
        node, finished = stack.pop()
        if finished:
            cone.nodes.append(node)
            continue
        if node in visited:
            continue
        visited.add(node)
        stack.append((node, True))
        for value in used_values(node):
            before = enter(value)
            if before is not None and before not in visited:
                stack.append((before, False))
    return cone


def _piece(
    model: ir.Model,
    cone: _Cone,
    outputs: Sequence[ir.Value],
    names: Mapping[ir.Value, str],
    opsets: dict[str, int],
) -> Piece:
    leaves = [value for value in names if value in cone.leaves]
    held = list(cone.weights)
    _told_apart(held)
    inner = {value for node in cone.nodes for value in node.outputs}
    shown = [value for value in dict.fromkeys(outputs) if value in inner]
    view = ir.GraphView(
        leaves, shown, nodes=cone.nodes, initializers=held, opset_imports=opsets, name="piece"
    )
    graph = view.clone()
    _anonymous(graph)
    place = dict(zip((*leaves, *held), (*graph.inputs, *graph.initializers.values()), strict=True))
    place |= dict(zip(shown, graph.outputs, strict=True))
    for value in leaves:
        clone = place[value]
        if clone.is_initializer():  # an input with a default: it is fed
            graph.initializers.pop(clone.name or "")
            clone.const_value = None
        clone.name = names[value]
    weights = _weights(graph, [place[value] for value in held])
    graph.outputs.clear()
    for index, value in enumerate(outputs):
        if holds_map(value.type):  # which Identity does not take
            place[value].name, place[value].type = f"y{index}", value.type
            graph.outputs.append(place[value])
            continue
        node = ir.Node("", "Identity", [place[value]])
        node.outputs[0].name, node.outputs[0].type = f"y{index}", value.type
        graph.append(node)
        graph.outputs.append(node.outputs[0])
    functions = list(model.functions.values())
    graph.opset_imports.update({node.domain: 1 for node in graph if node.domain not in graph.opset_imports})
    proto = to_proto(ir.Model(graph, ir_version=_IR_VERSION, functions=functions))
    return Piece(proto.SerializeToString(deterministic=True), weights)


def _told_apart(weights: Sequence[ir.Value]) -> None:
    """New weights get other names than those they meet, as they will when the edit is applied."""
    names = {value.name for value in weights if value.graph is not None}
    for value in weights:
        if value.graph is None:
            base, number = value.name or "weight", 0
            while value.name in names:
                number += 1
                value.name = f"{base}_{number}"
            names.add(value.name)


def _anonymous(graph: ir.Graph) -> None:
    """Inner values by number, without sizes: the piece runs at several, and equal pieces look equal."""
    for number, node in enumerate(graph.all_nodes()):
        node.name, node.doc_string = f"n{number}", None
        node.metadata_props.clear()
        for index, value in enumerate(node.outputs):
            if value.name:
                value.name = f"v{number}_{index}"
            value.shape = value.type = None
            value.metadata_props.clear()
    for value in graph.inputs:
        value.shape = None if value.shape is None else ir.Shape([None] * len(value.shape))
        value.metadata_props.clear()


def _weights(graph: ir.Graph, values: Sequence[ir.Value]) -> dict[str, Weight]:
    """Rename weights by number; take the larger ones out of the graph and return them."""
    kept: dict[str, Weight] = {}
    for value in values:
        graph.initializers.pop(value.name or "")
    for number, value in enumerate(values):
        value.name, tensor = f"w{number}", value.const_value
        if tensor is None:
            raise ValueError("a weight has no data")
        if tensor.nbytes <= _INLINE or tensor.dtype == ir.DataType.STRING:
            graph.register_initializer(value)
            continue
        fed = tensor.nbytes >= _AS_INPUT and tensor.dtype.is_floating_point()
        fed = fed and all(user.domain == "" and user.graph is graph for user, _ in value.uses())
        kept[value.name] = Weight(_as_stored(graph, value, lazy(tensor)) if fed else lazy(tensor), fed)
        value.const_value = None
        if fed:
            value.shape, value.type = None, ir.TensorType(kept[value.name].expr.dtype)
            graph.inputs.append(value)
    return kept


def _as_stored(graph: ir.Graph, value: ir.Value, expr: Expr) -> Expr:
    """The weight in the order of its file, where its only user is a product: turning it is dear."""
    users = tuple(value.uses())
    node, index = users[0] if len(users) == 1 else (None, 0)
    if node is not None and node.op_type == "Transpose" and len(expr.shape) == 2:
        after = tuple(node.outputs[0].uses())
        if len(after) == 1 and after[0] == (after[0].node, 1) and after[0].node.op_type == "MatMul":
            _turning(after[0].node, value)
            graph.remove(node, safe=True)
            return expr
    turned = simplified(Transposed(expr, (1, 0))) if len(expr.shape) == 2 else expr
    if node is None or node.op_type != "MatMul" or index != 1 or _turns(turned):
        return expr
    _turning(node, value)
    return turned


def _turns(expr: Expr) -> bool:
    return isinstance(expr, Transposed) or any(_turns(source) for source in expr.sources)


def _turning(node: ir.Node, weight: ir.Value) -> None:
    """Make a MatMul multiply with the transpose of its second operand, `weight`."""
    node.replace_input_with(1, weight)
    node.domain, node.op_type = TRANSPOSING_PRODUCT
    node.attributes["transB"] = ir.AttrInt64("transB", 1)


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
        _dims(value),
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


def _dims(value: ir.Value) -> tuple[Dim, ...] | None:
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)
