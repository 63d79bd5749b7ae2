"""Makes the graph of a whole model of one in which most of its alike layers were passed over."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, groupby

import onnx_ir as ir

from graphopt.export._alike import Stack, Unlike
from graphopt.export._block import Block

__all__ = ["renumber", "repeat_layers"]

_SCOPES = "pkg.torch.onnx.name_scopes"
_NUMBER = re.compile(r"(_+\d+)+$")


def repeat_layers(graph: ir.Graph, stack: Stack) -> None:
    """Put the layers that were passed over into `graph`, in place: copies of the pattern, with their weights.

    Raises `Unlike` where the pattern and the last layer are not the same but for the names of their weights,
    inputs and outputs, or hand on more than one value; the graph is of no use then.
    """
    first, pattern, last = _blocks(graph, stack)
    differ = Unlike(f"layers {pattern.index} and {last.index} of {stack.name} differ")
    if len(pattern.nodes) != len(last.nodes):
        raise differ
    entered, left = _handed_on(first, pattern, last)
    if pattern.described(entered) != last.described(left):
        raise differ
    layers = _Layers(graph, stack, pattern)
    handed_on = [entered]
    for index in range(1, stack.last):
        if index == pattern.index:
            handed_on.append(left)
        else:
            block = layers.add(index, entered, handed_on[-1])
            graph.insert_before((pattern if index < pattern.index else last).nodes[0], block.nodes)
            handed_on.append(block.at(pattern.places[left]))
    pattern.read_instead(entered, handed_on[pattern.index - 1])
    last.read_instead(left, handed_on[-1])
    layers.connect()


def _blocks(graph: ir.Graph, stack: Stack) -> list[Block]:
    """The layers that were traced, each from its first node to its last."""
    scope = re.compile(rf"'{re.escape(stack.name)}\.(\d+)[.']")
    nodes = list(graph)
    found = [scope.search(node.metadata_props.get(_SCOPES, "")) for node in nodes]
    layers = [None if match is None else int(match[1]) for match in found]
    blocks: list[Block] = []
    end = 0
    for index in (0, stack.pattern, stack.last):
        if index not in layers:
            raise Unlike(f"nothing is left of layer {index} of {stack.name}")
        start, after = layers.index(index), len(layers) - layers[::-1].index(index)
        # Some nodes do not say where they are from.
        if {*layers[start:after]} - {index, None} or (blocks and start != end):
            raise Unlike(f"the layers of {stack.name} are not one after the other")
        blocks.append(Block(stack.name, index, nodes[start:after]))
        end = after
    return blocks


def _handed_on(first: Block, pattern: Block, last: Block) -> tuple[ir.Value, ir.Value]:
    """What the pattern is given by the first layer, and what it gives to the last one, if that is all."""
    if len(pattern.handed_on()) != 1:
        raise Unlike("layers hand on more than one value")
    (left,) = pattern.handed_on()
    users = {use.node for use in left.uses()}
    read = next(((p, k) for p, k, value in last.reads() if value is left), None)
    if read is None or not users <= {*pattern.nodes, *last.nodes}:
        raise Unlike("what a layer hands on is not read by the next one alone")
    entered = pattern.nodes[read[0]].inputs[read[1]]
    after = last.at(pattern.places[left])
    if entered not in first.places or {*last.handed_on()} - {after}:
        raise Unlike("layers do not hand on the same")
    if any(v.is_graph_output() and pattern.name_in(v, 0) is None for v in pattern.places):
        raise Unlike("what a layer hands on is an output")
    return entered, left


class _Layers:
    """The copies of `pattern` in `graph`, and the weights, inputs and outputs that are theirs alone."""

    def __init__(self, graph: ir.Graph, stack: Stack, pattern: Block) -> None:
        self._graph, self._stack, self._pattern = graph, stack, pattern
        self._inputs = {value.name: value for value in graph.inputs}
        named = chain(stack.layers.named_parameters(), stack.layers.named_buffers())
        self._tensors = {f"{stack.name}.{name}": tensor for name, tensor in named}
        self._weights: dict[str, ir.Value] = {}
        self._outputs: dict[str | None, ir.Value] = {}

    def add(self, index: int, given: ir.Value, instead: ir.Value) -> Block:
        """The copy for the layer `index`, which reads `instead` where the pattern reads `given`."""
        block = self._pattern.copied(index, lambda v: instead if v is given else self._own(v, index))
        for value, place in self._pattern.places.items():
            if value.is_graph_output():
                self._outputs[block.at(place).name] = block.at(place)
        return block

    def _own(self, value: ir.Value, index: int) -> ir.Value:
        """What is to the layer `index` as `value` is to the pattern: itself where they share it."""
        name = self._pattern.name_in(value, index)
        if name is None:
            return value
        if value.is_initializer():
            return self._weight(value, name)
        if name not in self._inputs:
            raise Unlike(f"there is no input {name}")
        return self._inputs[name]

    def _weight(self, value: ir.Value, name: str) -> ir.Value:
        if name not in self._tensors or value.const_value is None:
            raise Unlike(f"{name} is no weight")
        if name not in self._weights:
            tensor = type(value.const_value)(self._tensors[name], name=name)  # type: ignore[call-arg]
            self._weights[name] = ir.Value(name=name, shape=value.shape, type=value.type, const_value=tensor)
        return self._weights[name]

    def connect(self) -> None:
        """Let the copies' outputs take the places of those handed on untouched, and order the weights."""
        handed_on = [value for value in self._graph.outputs if value.name in self._outputs]
        if len(handed_on) != len(self._outputs) or any(_source(value) is None for value in handed_on):
            raise Unlike("layers that were passed over have other outputs")
        self._graph.outputs[:] = [self._outputs.get(v.name, v) for v in self._graph.outputs]
        passed = [node for value in handed_on if (node := value.producer()) is not None]
        self._graph.remove(passed, safe=True)
        weights = list(self._ordered(self._graph.initializers.values()))
        self._graph.initializers.clear()
        for weight in weights:
            self._graph.register_initializer(weight)

    def _ordered(self, weights: Iterable[ir.Value]) -> Iterator[ir.Value]:
        """The weights with those of the copies in between."""
        pattern = self._pattern
        for is_own, group in groupby(weights, lambda weight: pattern.name_in(weight, 0) is not None):
            run = list(group)
            for index in range(1, self._stack.last) if is_own else (pattern.index,):
                yield from run if index == pattern.index else (self._own(weight, index) for weight in run)


def _source(value: ir.Value) -> ir.Value | None:
    """The graph's input that `value` is."""
    node = value.producer()
    if node is None or node.op_type != "Identity" or node.inputs[0] is None:
        return None
    return node.inputs[0] if node.inputs[0].is_graph_input() else None


def renumber(graph: ir.Graph) -> None:
    """Number nodes and their results in the order of the graph: copies are called as what they were made of.

    The names of inputs, outputs and weights stay.
    """
    fixed = {*graph.inputs, *graph.outputs, *graph.initializers.values()}
    taken = {value.name for value in fixed}
    values, nodes = _Names(taken), _Names(set())
    for node in graph:
        node.name = nodes.next(node.name)
        for value in node.outputs:
            if value not in fixed:
                value.name = values.next(value.name)


class _Names:
    """Names that end in a number, those that are `taken` left out."""

    def __init__(self, taken: set[str | None]) -> None:
        self._taken, self._counts = taken, Counter[str]()

    def next(self, name: str | None) -> str:
        """The next one of the kind of `name`."""
        kind = _NUMBER.sub("", name or "value")
        while (numbered := f"{kind}_{self._counts[kind]}") in self._taken:
            self._counts[kind] += 1
        self._counts[kind] += 1
        return numbered
