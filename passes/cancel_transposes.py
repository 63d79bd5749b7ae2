"""cancel-transposes: what is turned, computed with element by element and turned back is not turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, consumers, is_output, producer
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

_OF_ONE = {
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign",
    "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu",
}  # fmt: skip
_OF_SEVERAL = {"Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "Sub", "Sum", "Where"}
_MOST = 64  # nodes between Transposes that are looked at: more than a block of any net has


class CancelTransposes(Pass):
    """Transposes that undo each other go, with elementwise operators between them.

    Before: Transpose(f(Transpose(x), Transpose(y), c)), the outer permutation the inverse of the inner ones,
            f of elementwise operators and constants c
    After:  f(x, y, c turned); and a Transpose of it where something else reads what was turned
    Before: Transpose(Transpose(x))
    After:  Transpose(x), or x
    Layouts that exporters change around each convolution (TensorFlow's, say) are such.
    Refuses: values between that are outputs, or made of what is not turned; as many Transposes as before;
    more than 64 operators between them.
    """

    name: ClassVar[str] = "cancel-transposes"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(7, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            perm = _perm(node)
            if perm is None or node.graph is not graph or node.inputs[0] is None:
                continue
            inner = producer(node.inputs[0], "Transpose")
            if inner is not None:
                found = _merged(inner, node)
            else:
                region = _Region(graph, perm)
                found = region.grown(node.inputs[0].producer()) or _edit(region)
            if isinstance(found, Edit):
                yield found
            elif found != _PLAIN:
                yield NearMiss(node.name or "Transpose", found)


_PLAIN = "it is not between Transposes"


def _perm(node: ir.Node | None) -> tuple[int, ...] | None:
    if node is None or node.domain != "" or node.op_type != "Transpose":
        return None
    perm = node.attributes.get_ints("perm", None)
    return None if perm is None else tuple(perm)


def _merged(inner: ir.Node, outer: ir.Node) -> Edit | str:
    first, second = _perm(inner), _perm(outer)
    x, old = inner.inputs[0], outer.outputs[0]
    if first is None or second is None or x is None or inner.graph is not outer.graph:
        return _PLAIN
    perm = [first[axis] for axis in second]
    gone = [inner, outer] if _only_for(inner.outputs[0], {outer}) else [outer]
    make = Nodes(outer.name or "transpose")
    if perm != sorted(perm):
        x = make.op("Transpose", [x], "merged", like=old, perm=perm)
    elif is_output(old) and (x.producer() is None or is_output(x)):
        return "an output would be an input, or another output"
    return Edit("two Transposes as one", remove=gone, insert=make.nodes, replace={old: x})


def _only_for(value: ir.Value, users: set[ir.Node]) -> bool:
    return not is_output(value) and users.issuperset(consumers(value))


@dataclass
class _Region:
    """Elementwise nodes between Transposes: `leaves` go in, `closing` ones by `back` end it.

    A leaf maps to what it is turned from, a constant to itself; `read` are values that others read, too.
    """

    graph: ir.Graph
    back: tuple[int, ...]
    nodes: set[ir.Node] = field(default_factory=set)
    leaves: dict[ir.Value, ir.Value] = field(default_factory=dict)
    closing: set[ir.Node] = field(default_factory=set)
    read: set[ir.Value] = field(default_factory=set)

    @property
    def there(self) -> tuple[int, ...]:
        return tuple(int(axis) for axis in np.argsort(self.back))

    def grown(self, start: ir.Node | None) -> str | None:
        """Take in what belongs together with `start`; why not, if it cannot be turned back."""
        waiting = [start]
        while waiting:
            node = waiting.pop()
            if node in self.nodes:
                continue
            if node is None or not self._is_elementwise(node):
                return "what is not turned goes in" if self.leaves else _PLAIN
            if len(self.nodes) == _MOST:
                return f"more than {_MOST} nodes are between them"
            self.nodes.add(node)
            for value in _turned(node):
                if self._is_leaf(value):
                    continue
                waiting.append(value.producer())
            y = node.outputs[0]
            if is_output(y):
                return f"{y.name!r} is an output" if self.leaves else _PLAIN
            for user in consumers(y):
                if _perm(user) == self.back and user.graph is self.graph:
                    self.closing.add(user)
                elif self._is_elementwise(user):
                    waiting.append(user)
                else:
                    self.read.add(y)
        return None if any(leaf is not source for leaf, source in self.leaves.items()) else _PLAIN

    def _is_elementwise(self, node: ir.Node) -> bool:
        shape = node.outputs[0].shape
        known = shape is not None and len(shape) == len(self.back)
        return (
            known and node.graph is self.graph and node.domain == "" and node.op_type in _OF_ONE | _OF_SEVERAL
        )

    def _is_leaf(self, value: ir.Value) -> bool:
        turn = producer(value, "Transpose")
        source = turn.inputs[0] if turn is not None and _perm(turn) == self.there else None
        array = const_of(value)
        if source is not None:
            self.leaves[value] = source
        elif array is not None and array.ndim <= len(self.back):
            self.leaves[value] = value
        return value in self.leaves


def _turned(node: ir.Node) -> Sequence[ir.Value]:
    """The inputs of an elementwise node that are broadcast together."""
    inputs = node.inputs[:1] if node.op_type in _OF_ONE else node.inputs
    return [value for value in inputs if value is not None]


def _edit(region: _Region) -> Edit | str:
    opening = dict.fromkeys(leaf.producer() for leaf, source in region.leaves.items() if leaf is not source)
    gone = [node for node in opening if node is not None and _only_for(node.outputs[0], region.nodes)]
    if len(gone) + len(region.closing) <= len(region.read):
        return "as many values between them are read by others"
    closing = [node for node in region.graph if node in region.closing]
    order = [node for node in region.graph if node in region.nodes]
    make = Nodes(closing[0].name or "transpose")
    new: dict[ir.Value, ir.Value] = {}
    for leaf, source in region.leaves.items():
        new[leaf] = _constant(make, leaf, region.back) if leaf is source else source
    for node in order:
        old = node.outputs[0]
        shape = None if old.shape is None else [old.shape[axis] for axis in region.back]
        inputs = [new.get(value, value) if value is not None else None for value in node.inputs]
        attributes: dict[str, Any] = dict(node.attributes)
        label = node.name or node.op_type
        new[old] = make.op(node.op_type, inputs, label, dtype=old.dtype, shape=shape, **attributes)
    replace = {node.outputs[0]: new[_first(node)] for node in closing}
    for node in order:
        old = node.outputs[0]
        if old in region.read:
            label = f"{node.name or node.op_type}-turned"
            replace[old] = make.op("Transpose", [new[old]], label, like=old, perm=region.there)
    return Edit(
        f"{len(order)} elementwise nodes between {len(opening)} and {len(closing)} Transposes",
        remove=[*gone, *order, *closing],
        insert=make.nodes,
        initializers=make.initializers,
        replace=replace,
        before=closing[0],
    )


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _constant(make: Nodes, value: ir.Value, back: tuple[int, ...]) -> ir.Value:
    array = const_of(value)
    assert array is not None
    if array.size == 1:
        return value
    whole = array.reshape([1] * (len(back) - array.ndim) + list(array.shape))
    return make.weight(ir.tensor(np.ascontiguousarray(whole.transpose(back))), f"{value.name}~turned")
