"""Shapes of all values of a graph over batch, rows and past, also where nobody wrote them down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod

import onnx_ir as ir

from graphopt.cost._dims import Dim, Shape, broadcast, over_calls, simplest, size_of
from graphopt.ir import const_of
from graphopt.ir.operators import BLOCK_LOOKUP, BLOCK_PRODUCT, CARRYING, ELEMENTWISE, LIKE_FIRST

__all__ = ["Shapes", "meanings_of"]

_SMALL = 64
"""Elements of a vector that may say sizes."""
_END = 1 << 31
"""What slices that go to the end end at, or beyond."""
_SOME = (3, 5, 7)
"""A batch, rows and past by which signs of expressions are found."""
_ARITHMETIC = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "//"}


def meanings_of(graph: ir.Graph, states: Mapping[str, str]) -> dict[str, Dim]:
    """What names of sizes of `graph`'s inputs mean: those of its caches, of a batch of ids and of a mask."""
    found: dict[str, Dim] = {}

    def means(dim: int | ir.SymbolicDim, meaning: Dim) -> None:
        if isinstance(dim, ir.SymbolicDim) and isinstance(dim.value, str):
            found.setdefault(dim.value, meaning)

    inputs = [(v, list(v.shape)) for v in graph.inputs if v.shape is not None and not v.is_initializer()]
    for value, dims in inputs:
        if value.name in states and len(dims) == 4:
            means(dims[0], "batch")
            means(dims[2], "past")
    for value, dims in inputs:
        if value.name in states:
            continue
        if dims:
            means(dims[0], "batch")
        if _is_sequence(value, dims):
            is_mask = bool(states) and "mask" in (value.name or "")
            means(dims[1], "past + rows" if is_mask else "rows")
    return found


def _is_sequence(value: ir.Value, dims: Sequence[int | ir.SymbolicDim]) -> bool:
    """Ids [batch, rows], or vectors [batch, rows, size]."""
    if len(dims) == 2:
        return value.dtype is not None and value.dtype.is_integer()
    return len(dims) == 3 and isinstance(dims[2], int)


class Shapes:
    """Of the values of `graph` and its subgraphs, `meanings` being of the names of sizes in it.

    What is declared counts; what is not follows from operands. `otherwise` is what a size is that neither
    tells, if anything.
    """

    def __init__(self, graph: ir.Graph, meanings: Mapping[str, Dim], otherwise: int | None = None) -> None:
        self._meanings, self._otherwise = meanings, otherwise
        self._shapes: dict[ir.Value, Shape | None] = {}
        self._numbers: dict[ir.Value, list[Dim] | None] = {}
        self._visit(graph)

    def of(self, value: ir.Value | None) -> Shape | None:
        """None where it is not known."""
        if value is None:
            return None
        if value not in self._shapes:
            self._shapes[value] = self._completed(value, None)
        return self._shapes[value]

    def _visit(self, graph: ir.Graph) -> None:
        for node in graph.all_nodes():
            rule = self._rule(node)
            for index, value in enumerate(node.outputs):
                made = rule if index == 0 or node.op_type.startswith("Skip") else None
                self._shapes[value] = self._completed(value, made)
            if node.outputs:
                self._numbers[node.outputs[0]] = self._counted(node)

    def _completed(self, value: ir.Value, rule: Shape | None) -> Shape | None:
        """What is declared, and where that says nothing the `rule`."""
        if value.const_value is not None:
            return tuple(value.const_value.shape.numpy())
        if value.shape is None:
            return rule
        found = [self._declared(dim) for dim in value.shape]
        if rule is not None and len(rule) == len(found):
            found = [made if dim is None else dim for dim, made in zip(found, rule, strict=True)]
        if any(dim is None for dim in found):
            if self._otherwise is None:
                return None
            found = [self._otherwise if dim is None else dim for dim in found]
        return tuple(dim for dim in found if dim is not None)

    def _declared(self, dim: int | ir.SymbolicDim) -> Dim | None:
        if isinstance(dim, int):
            return dim
        return None if dim.value is None else over_calls(dim.value, self._meanings)

    def _inputs(self, node: ir.Node) -> list[Shape | None]:
        return [self.of(value) for value in node.inputs]

    def _rule(self, node: ir.Node) -> Shape | None:
        """The shape of the first result, by what the operator means."""
        inputs = self._inputs(node)
        first = inputs[0] if inputs else None
        if node.op_type in ELEMENTWISE:
            known = [shape for shape in inputs if shape is not None]
            return broadcast(known) if len(known) == sum(v is not None for v in node.inputs) else None
        if node.op_type in LIKE_FIRST:
            return first
        rule = _RULES.get(node.op_type)
        if rule is None or first is None:
            return None
        try:
            return rule(self, node, inputs)
        except (IndexError, TypeError, ValueError):
            return None

    def numbers(self, value: ir.Value | None) -> list[Dim] | None:
        """What a small vector of whole numbers holds, if that is known."""
        if value is None:
            return None
        if value not in self._numbers:
            array = const_of(value)
            if value.is_initializer() and value.const_value is not None and value.const_value.size <= _SMALL:
                array = value.const_value.numpy()
            if array is None or array.size > _SMALL or array.dtype.kind not in "iu":
                self._numbers[value] = None
            else:
                self._numbers[value] = [int(one) for one in array.reshape(-1)]
        return self._numbers[value]

    def _counted(self, node: ir.Node) -> list[Dim] | None:
        if node.domain:
            return None
        attributes, op = node.attributes, node.op_type
        if op == "Shape":
            shape = self.of(node.inputs[0])
            end = attributes.get_int("end", len(shape)) if shape is not None else 0
            return None if shape is None else list(shape[attributes.get_int("start", 0) : end])
        if op == "Size":
            shape = self.of(node.inputs[0])
            return None if shape is None else [times(shape)]
        operands = [self.numbers(value) for value in node.inputs]
        first = operands[0] if operands else None
        if op in CARRYING and op not in ("Expand", "Neg"):
            return first
        if any(operand is None for operand in operands):
            return None
        known = [operand for operand in operands if operand is not None]
        if op == "Concat":
            return [number for operand in known for number in operand]
        if op == "Gather" and first is not None:
            return [first[index] for index in known[1] if isinstance(index, int) and index < len(first)]
        if op == "Slice" and first is not None:
            return _sliced(known)
        if op in ("Max", "Min"):
            return [_put(f"{op}({{}}, {{}})", a, b) for a, b in _paired(known)]
        if op == "Neg":
            return [_put("-({})", number) for number in known[0]]
        if op in _ARITHMETIC:
            return [_put(f"({{}}) {_ARITHMETIC[op]} ({{}})", a, b) for a, b in _paired(known)]
        return None


def times(dims: Sequence[Dim]) -> Dim:
    """The product of sizes."""
    numbers = prod(dim for dim in dims if isinstance(dim, int))
    names = [f"({dim})" for dim in dims if isinstance(dim, str)]
    return simplest(" * ".join([str(numbers), *names])) if names and numbers else numbers


def _put(form: str, *dims: Dim) -> Dim:
    return simplest(form.format(*dims))


def _paired(operands: list[list[Dim]]) -> Iterator[tuple[Dim, Dim]]:
    left, right = operands
    length = max(len(left), len(right))
    yield from zip(left * (length // len(left)), right * (length // len(right)), strict=True)


def _sliced(operands: list[list[Dim]]) -> list[Dim] | None:
    numbers, (start,), (end,) = operands[:3]
    step = operands[4][0] if len(operands) > 4 else 1
    if not (isinstance(start, int) and isinstance(end, int) and isinstance(step, int)):
        return None
    return numbers[start:end:step]


Rule = Callable[[Shapes, ir.Node, list[Shape | None]], Shape | None]


def _known(shape: Shape | None) -> Shape:
    if shape is None:
        raise ValueError("a shape is not known")
    return shape


def _expand(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    to = shapes.numbers(node.inputs[1])
    return None if to is None else broadcast([_known(inputs[0]), tuple(to)])


def _reshape(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    to, source = shapes.numbers(node.inputs[1]), _known(inputs[0])
    if to is None:
        return None
    found = [
        source[i] if dim == 0 and not node.attributes.get_int("allowzero", 0) else dim
        for i, dim in enumerate(to)
    ]
    if -1 in found:
        at = found.index(-1)
        others = times([dim for dim in found if dim != -1])
        found[at] = _put("({}) / ({})", times(source), others)
    return tuple(found)


def _axes(shapes: Shapes, node: ir.Node) -> list[int] | None:
    given = node.attributes.get_ints("axes", None)
    if given is not None:
        return list(given)
    found = shapes.numbers(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if found is None else [axis for axis in found if isinstance(axis, int)]


def _squeeze(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    source, axes = _known(inputs[0]), _axes(shapes, node)
    gone = (
        {axis % len(source) for axis in axes}
        if axes is not None
        else {i for i, d in enumerate(source) if d == 1}
    )
    return tuple(dim for i, dim in enumerate(source) if i not in gone)


def _unsqueeze(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    source, axes = list(_known(inputs[0])), _axes(shapes, node)
    if axes is None:
        return None
    rank = len(source) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        source.insert(axis, 1)
    return tuple(source)


def _range(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    ends = [shapes.numbers(value) for value in node.inputs]
    if any(end is None for end in ends):
        return None
    (start,), (limit,), (step,) = (end for end in ends if end is not None)
    return (_put("(({1}) - ({0})) / ({2})", start, limit, step),)


def _gather(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    data, ids = _known(inputs[0]), _known(inputs[1])
    axis = node.attributes.get_int("axis", 0) % len(data)
    return (*data[:axis], *ids, *data[axis + 1 :])


def _gather_nd(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    data, ids = _known(inputs[0]), _known(inputs[1])
    depth = ids[-1]
    if not isinstance(depth, int):
        return None
    return (*ids[:-1], *data[node.attributes.get_int("batch_dims", 0) + depth :])


def _gather_blocks(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    data, ids = list(_known(inputs[0])), _known(inputs[1])
    value, last = node.inputs[0], data[-1]
    if value is not None and value.dtype == ir.DataType.UINT8 and isinstance(last, int):
        data[-1] = last * 8 // node.attributes.get_int("bits", 4)
    axis = node.attributes.get_int("gather_axis", 0)
    return (*data[:axis], *ids, *data[axis + 1 :])


def _concat(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    parts = [_known(shape) for shape in inputs]
    axis = node.attributes.get_int("axis", 0) % len(parts[0])
    whole = simplest(" + ".join(f"({part[axis]})" for part in parts))
    return (*parts[0][:axis], whole, *parts[0][axis + 1 :])


def _transpose(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    source = _known(inputs[0])
    order = node.attributes.get_ints("perm", None) or range(len(source))[::-1]
    return tuple(source[axis] for axis in order)


def _matmul(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    left, right = _known(inputs[0]), _known(inputs[1])
    if len(left) < 2 or len(right) < 2:
        return None
    batch = broadcast([left[:-2], right[:-2]])
    return None if batch is None else (*batch, left[-2], right[-1])


def _blocks(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    return (*_known(inputs[0])[:-1], node.attributes.get_int("N", 0))


def _slice(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    found = list(_known(inputs[0]))
    starts, ends = (shapes.numbers(value) for value in node.inputs[1:3])
    axes, steps = (
        shapes.numbers(node.inputs[place])
        if len(node.inputs) > place and node.inputs[place] is not None
        else None
        for place in (3, 4)
    )
    if starts is None or ends is None:
        return None
    steps = steps or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps, strict=True):
        if not isinstance(axis, int) or not isinstance(step, int) or step < 1:
            return None
        first, last = (_place(number, found[axis]) for number in (start, end))
        length = _put("({1}) - ({0})", first, last)
        found[axis] = length if step == 1 else _put("ceiling(({}) / ({}))", length, step)
    return tuple(found)


def _place(number: Dim, size: Dim) -> Dim:
    """Where an axis of `size` is cut: numbers below zero count from its end, and none is beyond it."""
    if isinstance(number, int) and number >= _END:
        return size
    if (number if isinstance(number, int) else size_of(number, *_SOME)) < 0:
        return _put("({}) + ({})", size, number)
    return min(number, size) if isinstance(number, int) and isinstance(size, int) else number


def _reduced(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    source, axis = _known(inputs[0]), node.attributes.get_int("axis", 0)
    kept = (1,) if node.attributes.get_int("keepdims", 1) else ()
    axis %= len(source)
    return (*source[:axis], *kept, *source[axis + 1 :])


def _top(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    source, count = _known(inputs[0]), shapes.numbers(node.inputs[1])
    axis = node.attributes.get_int("axis", -1) % len(source)
    return None if count is None else (*source[:axis], count[0], *source[axis + 1 :])


def _of_numbers(shapes: Shapes, node: ir.Node, inputs: list[Shape | None]) -> Shape | None:
    to = shapes.numbers(node.inputs[0])
    return None if to is None else tuple(to)


_RULES: Mapping[str, Rule] = {
    "ArgMax": _reduced,
    "ArgMin": _reduced,
    "Concat": _concat,
    "ConstantOfShape": _of_numbers,
    "Expand": _expand,
    "Gather": _gather,
    BLOCK_LOOKUP: _gather_blocks,
    "GatherND": _gather_nd,
    "MatMul": _matmul,
    BLOCK_PRODUCT: _blocks,
    "Range": _range,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "TopK": _top,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
