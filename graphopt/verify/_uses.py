"""What the nodes of a window do with its constants and inputs: compare, index, cut, divide, size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
import onnx_ir as ir

from graphopt.interface import Dim
from graphopt.ir import subgraphs_of
from graphopt.ir.operators import (
    ADDING_UP,
    CARRYING,
    CHOOSING,
    COUNTING,
    ELEMENTWISE,
    MIXING,
    NO_LENGTHS,
    OTHER_ELEMENTWISE,
    PRODUCTS,
    SIZE_INPUTS,
    WHOLE_NUMBERS,
)

__all__ = ["Uses", "constant_of", "is_looked_up", "is_unlimited", "uses_of"]

_FEW = 16
"""Numbers up to which a constant is looked at: axes, shapes and limits, not weights. Rank 8 in pads is 16."""
_NONE = np.zeros(0)
_LENGTH = 1 << 20
"""The longest axis that a constant may stand for: beyond, no call of that length can be run."""
_MOVING = CARRYING | {"Concat", "Slice", "Split"}


@dataclass
class Uses:
    """What the constants of a window are used for, and what each of its inputs.

    `lengths`: integers at which something may happen along an axis, with the axis' name if it is known which.
    `numbers`: what values are compared, added or multiplied with; `steps`, what they are rounded to.
    `adds_up`: one value may be made of many. Of values from outside: `picks` are the sizes of
    the axes that they choose places of; some are `divisors`; some are `sizes`, and `declared` says of what
    shape, where a value's whole shape is meant.
    """

    lengths: dict[tuple[str | None, int], None] = field(default_factory=dict)
    numbers: dict[float, None] = field(default_factory=dict)
    steps: dict[float, None] = field(default_factory=dict)
    adds_up: bool = False
    picks: dict[ir.Value, dict[Dim, None]] = field(default_factory=dict)
    divisors: set[ir.Value] = field(default_factory=set)
    sizes: set[ir.Value] = field(default_factory=set)
    declared: dict[ir.Value, tuple[Dim, ...]] = field(default_factory=dict)


def uses_of(nodes: Sequence[ir.Node], fed: Iterable[ir.Value]) -> Uses:
    """Of `nodes`, in topological order, and what is in their subgraphs; `fed` values come from outside."""
    found = Uses()
    every = list(_all(nodes))
    makers = {output: node for node in every for output in node.outputs}
    held: dict[ir.Value, np.ndarray] = {}
    counted = {value for value in fed if _is_integer(value)}
    for node in every:
        for value in node.inputs:
            if value is not None and value not in held and (array := constant_of(value)) is not None:
                held[value] = array
        _carry(node, held)
        _count(node, counted, makers, set(held))
        _lengths(node, held, counted, found)
        _numbers(node, held, found)
        _slots(node, makers, found)
        found.adds_up |= node.op_type not in ELEMENTWISE | CARRYING | OTHER_ELEMENTWISE
    return found


def constant_of(value: ir.Value) -> np.ndarray | None:
    """The few numbers that a value holds whatever the inputs are."""
    tensor = value.const_value
    node = value.producer()
    if node is not None and node.op_type == "Constant" and node.domain == "":
        attribute = next(iter(node.attributes.values()), None)
        if attribute is None or attribute.is_ref():
            return None
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
        elif isinstance(attribute.value, (int, float)) or attribute.type in (
            ir.AttributeType.INTS,
            ir.AttributeType.FLOATS,
        ):
            return np.asarray(attribute.value).reshape(-1)[:_FEW]
        else:
            return None
    elif not value.is_initializer() or value.is_graph_input():
        tensor = tensor if node is None and value.graph is None else None
    if tensor is None or tensor.size > _FEW:
        return None
    if tensor.dtype.is_floating_point() or tensor.dtype.is_integer():
        return np.asarray(tensor.numpy()).reshape(-1)
    return None


def is_looked_up(table: ir.Value) -> bool:
    """Whether some user may choose rows of a weight: not if it is only computed with."""
    return any(
        user.op_type in CHOOSING | {"Slice", "Split", "RotaryEmbedding"}
        or (user.domain != "" and user.op_type not in PRODUCTS)
        for user, _ in table.uses()
    )


def is_unlimited(value: ir.Value) -> bool:
    """Whether a floating-point value may hold any number, as far as its maker and those that moved it say."""
    while (node := value.producer()) is not None:
        if node.op_type in ADDING_UP:
            return len(set(node.inputs)) == len(node.inputs)
        if node.op_type not in _MOVING or node.inputs[0] is None:
            return False
        value = node.inputs[0]
    return value.is_graph_input()


def _all(nodes: Iterable[ir.Node]) -> Iterator[ir.Node]:
    for node in nodes:
        yield node
        for graph in subgraphs_of(node):
            yield from _all(graph)


def _is_integer(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_integer()


def _is_flag(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.BOOL


def _carry(node: ir.Node, held: dict[ir.Value, np.ndarray]) -> None:
    """The numbers that a node hands on from a constant."""
    if node.op_type in CARRYING and node.inputs and node.inputs[0] in held:
        array = held[node.inputs[0]]
        held[node.outputs[0]] = -array.astype(np.float64) if node.op_type == "Neg" else array


def _count(
    node: ir.Node, counted: set[ir.Value], makers: Mapping[ir.Value, ir.Node], held: set[ir.Value]
) -> None:
    """Which values grow with some length: what counts, what is made of that, and what a body is given."""
    inputs = [value for value in node.inputs if value is not None]
    inner = {v for v in inputs if v not in makers and v.producer() is None and not v.is_initializer()}
    if (
        node.op_type in COUNTING
        or any(v in counted for v in inputs)
        or any(_is_integer(v) and v not in held for v in inner)
    ):
        counted.update(node.outputs)


def _lengths(node: ir.Node, held: Mapping[ir.Value, np.ndarray], counted: set[ir.Value], found: Uses) -> None:
    def add(name: str | None, numbers: Iterable[float]) -> None:
        for number in map(float, numbers):  # a float16 does not compare with what it cannot hold
            if 1 < abs(number) <= _LENGTH:
                found.lengths[name, round(abs(number))] = None

    inputs = list(node.inputs)
    numbers = [held.get(value, _NONE) if value is not None else _NONE for value in inputs]
    if node.op_type == "Slice" and node.domain == "" and len(inputs) > 2:
        axes = numbers[3] if len(inputs) > 3 else _NONE
        for bounds in numbers[1:3]:
            for place, number in enumerate(bounds):
                name = _name(inputs[0], int(axes[place]) if place < len(axes) else place)
                if not isinstance(name, int):
                    add(name, [number])
    elif node.op_type in CHOOSING | {"TopK"} and len(inputs) > 1:
        name = _name(inputs[0], node.attributes.get_int("axis", -1 if node.op_type == "TopK" else 0))
        if not isinstance(name, int):
            add(name, numbers[1])
    elif node.op_type == "Trilu" and len(inputs) > 1:
        add(None, numbers[1])
    elif node.op_type in ELEMENTWISE and any(v in counted for v in inputs if v is not None):
        add(None, (number for array in numbers for number in array))
    elif node.op_type == "Cast" and inputs[0] in counted and not _is_flag(inputs[0]):
        found_at = WHOLE_NUMBERS.get(ir.DataType(node.attributes.get_int("to", 1)))
        if found_at is not None:
            add(None, [found_at])
    old = node.domain == ""
    if old and node.op_type not in ("Slice", "TopK"):
        return
    for name, attribute in node.attributes.items():
        if attribute.is_ref() or (name not in ("starts", "ends", "k") if old else name in NO_LENGTHS):
            continue
        if attribute.type == ir.AttributeType.INT:
            add(None, [attribute.as_int()])
        elif attribute.type == ir.AttributeType.INTS:
            add(None, attribute.as_ints())


def _name(value: ir.Value | None, axis: int) -> Dim:
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    dim = value.shape[axis]
    return dim if isinstance(dim, int) else dim.value


def _numbers(node: ir.Node, held: Mapping[ir.Value, np.ndarray], found: Uses) -> None:
    if node.op_type in ELEMENTWISE:
        kept = found.steps if node.op_type == "QuantizeLinear" else found.numbers
        for value in node.inputs:
            for number in held.get(value, ()) if value is not None else ():
                if isfinite(number):
                    kept[float(number)] = None
    for attribute in node.attributes.values():
        if not attribute.is_ref() and attribute.type == ir.AttributeType.FLOAT and node.op_type != "Constant":
            found.numbers[attribute.as_float()] = None


def _slots(node: ir.Node, makers: Mapping[ir.Value, ir.Node], found: Uses) -> None:
    """What the values from outside are for that reach a particular input of this node."""
    inputs = node.inputs
    slots = (1,) if node.op_type.startswith("Reduce") else SIZE_INPUTS.get(node.op_type, ())
    for index in slots if node.domain == "" else ():
        value = inputs[index] if index < len(inputs) else None
        if value is not None:
            reached = _reached(value, makers)
            found.sizes.update(reached)
            if node.op_type in ("Reshape", "Expand", "ConstantOfShape") and len(reached) == 1:
                shape = node.outputs[0].shape
                if shape is not None and _is_whole(reached[0], value, makers):
                    dims = tuple(d if isinstance(d, int) else d.value for d in shape)
                    found.declared.setdefault(reached[0], dims)
    if node.op_type in CHOOSING and len(inputs) > 1 and inputs[1] is not None:
        data = inputs[0]
        axis = node.attributes.get_int("gather_axis", node.attributes.get_int("axis", 0))
        for value in _reached(inputs[1], makers):
            found.picks.setdefault(value, {})[_name(data, axis)] = None
    if node.op_type in ("Div", "Mod") and len(inputs) > 1 and inputs[1] is not None:
        found.divisors.update(_reached(inputs[1], makers))


def _reached(value: ir.Value, makers: Mapping[ir.Value, ir.Node]) -> list[ir.Value]:
    """The values from outside that `value` is put together from, itself if it is one."""
    found, stack, seen = [], [value], {value}
    while stack:
        node = makers.get(top := stack.pop())
        if node is None:
            if constant_of(top) is None:
                found.append(top)
        elif node.op_type in MIXING:
            chosen = node.inputs[:1] if node.op_type in ("Gather", "Slice", "Reshape") else node.inputs
            for inner in chosen:
                if inner is not None and inner not in seen:
                    seen.add(inner)
                    stack.append(inner)
    return found


def _is_whole(value: ir.Value, used: ir.Value, makers: Mapping[ir.Value, ir.Node]) -> bool:
    while used is not value:
        node = makers.get(used)
        if node is None or node.op_type not in ("Cast", "Identity") or node.inputs[0] is None:
            return False
        used = node.inputs[0]
    return True
