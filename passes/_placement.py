"""Which nodes of a graph are computed in integers of 8 bits, and which of their values share a scale."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

import onnx_ir as ir

from graphopt.ir import const_of, constant_matrix, has_data, is_output, only_user, producer, scalar_of

__all__ = ["Placement", "Taken", "placed", "products_of"]

_ELEMENTWISE = {"Add", "Mul", "Sigmoid", "LeakyRelu", "GlobalAveragePool", "AveragePool", "Concat"}
_MOVING = {
    "DepthToSpace", "Flatten", "MaxPool", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
}  # fmt: skip
"""What comes out is among what goes in: one scale serves both."""
_HARD = {"HardSigmoid", "HardSwish"}
"""Straight between two bounds: another scale, and what integers saturate at, is all they are."""
_KERNELS = {
    "HardSigmoid": ("LeakyRelu",),
    "HardSwish": ("LeakyRelu", "Mul"),
    "ReduceMean": ("GlobalAveragePool", "Squeeze"),
}
"""What an operator is computed by, where it is not itself."""
_PLACES = 2
"""The first dimension of places in pictures; before it are samples and channels."""
_ALL = {"Add", "Concat", "Mul"}
"""Every input is an activation; of the others it is the first."""


@dataclass(frozen=True)
class Taken:
    """A node to compute in integers, with the Relu or Clip behind it, which unsigned integers do as well.

    `activations` are the places of the inputs that are rounded with a static scale. A product has a weight
    at place 1 whose outputs lie along `axis`. `rounds`: what comes out is rounded, too.
    """

    node: ir.Node
    activations: tuple[int, ...]
    axis: int | None = None
    absorbed: ir.Node | None = None
    rounds: bool = True

    @property
    def outputs(self) -> list[ir.Value]:
        return list((self.absorbed or self.node).outputs)

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which the outputs are, because of what was absorbed."""
        if self.absorbed is None:
            return -inf, inf
        if self.absorbed.op_type == "Relu":
            return 0.0, inf
        low, high = map(scalar_of, (*self.absorbed.inputs[1:], None, None)[:2])
        return -inf if low is None else low, inf if high is None else high


@dataclass
class Placement:
    """Nodes in the order of the graph. `islands` are those that stay in floats beside integers, and why."""

    taken: list[Taken] = field(default_factory=list)
    islands: dict[ir.Node, str] = field(default_factory=dict)
    _roots: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def root(self, value: ir.Value) -> ir.Value:
        """The value whose range `value` has."""
        while value in self._roots:
            value = self._roots[value]
        return value

    def values(self) -> list[ir.Value]:
        """Those whose ranges are needed, in the order of the graph."""
        return list(dict.fromkeys(map(self.root, self.activations())))

    def activations(self) -> list[ir.Value]:
        """Those that are rounded, and no constants."""
        found: dict[ir.Value, None] = {}
        for taken in self.taken:
            inputs = [taken.node.inputs[i] for i in taken.activations]
            found |= dict.fromkeys(v for v in inputs if v is not None and not v.is_initializer())
            found |= dict.fromkeys(taken.outputs if taken.rounds else ())
        return list(found)

    def share(self, values: Iterable[ir.Value], root: ir.Value) -> None:
        """Give all of `values` the range of `root`."""
        for value in map(self.root, values):
            if value is not root:
                self._roots[value] = root

    def joined(self) -> Iterator[tuple[list[ir.Value], ir.Value]]:
        """Of each concatenation, the values whose ranges its inputs have, and the one whose range it has."""
        for taken in self.taken:
            if taken.node.op_type == "Concat":
                inputs = (taken.node.inputs[i] for i in taken.activations)
                roots = dict.fromkeys(self.root(v) for v in inputs if v is not None)
                yield list(roots), self.root(taken.outputs[0])


def products_of(graph: ir.Graph) -> Iterator[tuple[ir.Node, str | None]]:
    """Convolutions, and products of two matrices, with why their weights cannot be rounded."""
    for node in graph:
        if (node.domain, node.op_type) == ("", "Conv"):
            yield node, _unfit_weight(node)
        elif (found := constant_matrix(node)) is not None:
            yield node, found if isinstance(found, str) else _unfit_weight(node)


def placed(
    graph: ir.Graph,
    products: Container[ir.Node],
    computes: Callable[[str], bool],
    *,
    alone: bool = False,
) -> Placement:
    """Take `products`, and what lies between them, as far as the target `computes` it in integers.

    A product of matrices is taken where what it multiplies is in integers, and nothing behind the last
    product is: outputs are as exact as they can be. With `alone` it is taken anywhere, and nothing between.
    """
    found = Placement()
    if alone:
        own = [
            node for node in graph if node in products and node.op_type != "Conv" and computes(node.op_type)
        ]
        found.taken += [Taken(node, (0,), _axis(node), rounds=False) for node in own]
        return found
    integers: dict[ir.Value, None] = {}
    possible: dict[ir.Node, Taken] = {}
    inside: set[ir.Node] = set()
    for node in graph:
        if node in inside:
            continue
        made = _product(node, products, integers) or _between(node, integers)
        if made is None or not all(map(computes, _KERNELS.get(node.op_type, (node.op_type,)))):
            if any(value in integers for value in node.inputs):
                found.islands[node] = "the target computes it in floats alone"
            continue
        absorbed = _absorbed(node)
        if absorbed is not None:
            inside.add(absorbed)
        activations, axis = made
        possible[node] = taken = Taken(node, activations, axis, absorbed)
        integers |= dict.fromkeys(taken.outputs)
    needed = _needed(possible)
    for node, taken in possible.items():
        rounds = any(value in needed for value in taken.outputs) or node.op_type == "Conv"
        if taken.axis is None and not rounds:
            found.islands[node] = "no product comes after it"
            continue
        found.taken.append(Taken(node, taken.activations, taken.axis, taken.absorbed, rounds))
        if node.op_type in _MOVING and (x := node.inputs[0]) is not None:
            found.share(taken.outputs, x)
    return found


def _needed(possible: dict[ir.Node, Taken]) -> set[ir.Value]:
    """Values that a product reads, or what leads to one."""
    needed: set[ir.Value] = set()
    for node, taken in reversed(possible.items()):
        if taken.axis is not None or any(value in needed for value in taken.outputs):
            needed.update(v for i in taken.activations if (v := node.inputs[i]) is not None)
    return needed


def _product(
    node: ir.Node, products: Container[ir.Node], integers: Container[ir.Value]
) -> tuple[tuple[int, ...], int] | None:
    """The activation of a product and the axis of its weight's outputs."""
    if node not in products:
        return None
    if node.op_type == "Conv":
        return (0,), 0
    if node.inputs[0] not in integers:
        return None
    return (0,), _axis(node)


def _axis(matrices: ir.Node) -> int:
    """Of the weight of a product of matrices, along which its outputs lie."""
    return 0 if matrices.attributes.get_int("transB", 0) else 1


def _between(node: ir.Node, integers: Container[ir.Value]) -> tuple[tuple[int, ...], None] | None:
    """The activations of what is no product, if one of them is in integers."""
    if node.domain or node.op_type not in _ELEMENTWISE | _MOVING | _HARD | {"ReduceMean"} or _unfit(node):
        return None
    places = range(len(node.inputs)) if node.op_type in _ALL else range(1)
    inputs = [node.inputs[i] for i in places]
    if not any(value in integers for value in inputs):
        return None
    if any(value is None or value.dtype != ir.DataType.FLOAT for value in inputs):
        return None
    return tuple(places), None


def _unfit(node: ir.Node) -> bool:
    if node.op_type == "ReduceMean":
        return not _averages_places(node)
    if node.op_type == "Resize":
        return node.attributes.get_string("mode", "nearest") != "nearest"
    if node.op_type == "HardSigmoid":
        return not 0 <= node.attributes.get_float("beta", 0.5) <= 1
    return node.op_type == "MaxPool" and len(node.outputs) > 1


def _averages_places(node: ir.Node) -> bool:
    """Whether it is the mean of each channel of pictures [N, C, ...], a GlobalAveragePool by another name."""
    x = node.inputs[0]
    if x is None or x.shape is None or len(x.shape) < _PLACES + 1:
        return False
    rank = len(x.shape)
    given = const_of(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get_ints("axes", None)
    return given is not None and sorted(int(a) % rank for a in given) == list(range(_PLACES, rank))


def _absorbed(node: ir.Node) -> ir.Node | None:
    """The one user of `node`, if it does nothing to what is inside a range that begins at zero or below."""
    user = only_user(node.outputs[0]) if len(node.outputs) == 1 else None
    if user is None or user.domain or is_output(node.outputs[0]) or user.inputs[0] is not node.outputs[0]:
        return None
    if user.op_type == "Relu":
        return user
    if user.op_type != "Clip":
        return None
    low, high = (scalar_of(v) if v is not None else None for v in (*user.inputs[1:], None, None)[:2])
    given = [v for v in user.inputs[1:] if v is not None]
    if len([b for b in (low, high) if b is not None]) != len(given):
        return None
    return user if (low is None or low <= 0) and (high is None or high >= 0) else None


def _unfit_weight(node: ir.Node) -> str | None:
    weight = node.inputs[1]
    if producer(weight, "DequantizeLinear") is not None:
        return "its weight is quantized already"
    if weight is None or not weight.is_initializer() or weight.is_graph_input():
        return "its weight is not a constant"
    if weight.const_value is None or not has_data(weight.const_value):
        return "its weight has no data"
    if weight.dtype != ir.DataType.FLOAT:
        return "its weight is not float32"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and (
        not bias.is_initializer() or bias.is_graph_input() or len(bias.shape or ()) != 1
    ):
        return "its bias is not a constant, one number for each output"
    return None
