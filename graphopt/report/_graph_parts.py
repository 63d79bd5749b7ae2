"""What part of a model each node of its graph belongs to, by the names that exporters keep."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import onnx_ir as ir

from graphopt.ir import node_name, subgraphs_of
from graphopt.ir.operators import TABLES
from graphopt.report._graph_history import Made
from graphopt.report._graph_regions import regions

__all__ = ["SHARED", "Clues", "Part", "Wiring", "parts_of", "result_parts"]


@dataclass(frozen=True)
class Part:
    """A module of the model: layer `layer` of `stack`, and of it what is called `name`.

    What is in no layer has none; `stack` is then the module itself, or where no name tells it a number.
    """

    stack: str
    layer: int | None = None
    name: str = ""
    is_block: bool = False

    @property
    def id(self) -> str:
        """Another one for each part."""
        words = (self.stack, "" if self.layer is None else str(self.layer), self.name)
        return "/".join(word for word in words if word)


_FEWEST = 3
"""Parts without layers that names have to tell: one name before all others ("gpu_0/") tells nothing."""
SHARED = Part("shared")
"""What more than one layer uses and none makes: masks, positions, sizes."""


@dataclass
class Clues:
    """What is known of nodes by names: their part, or only which layer they are of."""

    parts: dict[ir.Node, Part] = field(default_factory=dict)
    layers: dict[ir.Node, int] = field(default_factory=dict)


class Wiring:
    """Who uses what in the top level of a graph, what subgraphs use counted for the node that holds them.

    `constant` nodes depend on weights alone; in `computed` ones weights take part. Others make sizes, masks
    and positions from the inputs.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph, self.nodes = graph, list(graph)
        self.at = {node: n for n, node in enumerate(self.nodes)}
        self.inner = {
            node: [inner for graph in subgraphs_of(node) for inner in graph.all_nodes()]
            for node in self.nodes
        }
        self.top = {inner: node for node in self.nodes for inner in (node, *self.inner[node])}
        self.constant: set[ir.Node] = set()
        self.computed: set[ir.Node] = set()
        self.inputs: dict[ir.Node, list[ir.Value]] = {}
        self._weights_of: dict[ir.Value, tuple[ir.Value, ...]] = {}
        self.users: dict[ir.Node, list[ir.Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            inner = set(self.inner[node])
            used = dict.fromkeys(v for one in (node, *inner) for v in one.inputs if v is not None)
            self.inputs[node] = [value for value in used if value.producer() not in inner]
            makers = [self.maker(value) for value in self.inputs[node]]
            for maker in dict.fromkeys(maker for maker in makers if maker is not None):
                self.users[maker].append(node)
            if all(self._is_constant(value) for value in self.inputs[node]):
                self.constant.add(node)
            elif any(maker in self.computed for maker in makers) or self.heavy(node):
                self.computed.add(node)

    def maker(self, value: ir.Value) -> ir.Node | None:
        """The node of the top level that makes `value`; None for an input or a weight."""
        node = value.producer()
        return None if node is None else self.top.get(node)

    def makers(self, node: ir.Node) -> list[ir.Node]:
        """The nodes whose values `node` uses."""
        found = (self.maker(value) for value in self.inputs[node])
        return [maker for maker in dict.fromkeys(found) if maker is not None]

    def weights(self, node: ir.Node) -> Iterator[tuple[ir.Value, bool]]:
        """The weights that `node` uses, maybe through constant nodes, and whether it takes rows of them."""
        tables = TABLES.get((node.domain, node.op_type), ((), 0, ""))[0]
        for index, value in enumerate(node.inputs):
            if value is not None and self._is_constant(value):
                yield from ((weight, index in tables) for weight in self._behind(value))

    def heavy(self, node: ir.Node) -> bool:
        """Whether `node` uses a matrix or a vector of numbers that are no sizes."""
        used = [value for value in node.inputs if value is not None and self._is_constant(value)]
        return any(map(_is_matrix, used)) or any(_is_matrix(weight) for weight, _ in self.weights(node))

    def _behind(self, value: ir.Value) -> tuple[ir.Value, ...]:
        """The weights that `value`, a constant, is computed from; each once, however long the way."""
        if value not in self._weights_of:
            found, waiting, seen = [], [value], {value}
            while waiting:
                one = waiting.pop()
                maker = self.maker(one)
                if maker is None:
                    found.append(one)
                    continue
                new = [used for used in self.inputs[maker] if used not in seen]
                seen.update(new)
                waiting += reversed(new)
            self._weights_of[value] = tuple(found)
        return self._weights_of[value]

    def _is_constant(self, value: ir.Value) -> bool:
        maker = self.maker(value)
        return value.is_initializer() if maker is None else maker in self.constant


def _is_matrix(value: ir.Value) -> bool:
    if value.shape is None or value.dtype is None:
        return False
    sizes = [dim if isinstance(dim, int) else 1 for dim in value.shape]
    return len(sizes) > 1 or (prod(sizes) > 1 and value.dtype.is_floating_point())


def parts_of(wiring: Wiring) -> tuple[dict[ir.Node, Part], Clues]:
    """The part of each node of the top level of a graph, and what was known by name alone.

    Names of weights ("model.layers.3.mlp.up_proj.weight"), of nodes ("/layers.3/mlp/MatMul") and of caches
    tell layers; what has none belongs where its results are used. A graph whose names tell nearly nothing is
    cut where one value alone goes through (`regions`).
    """
    clues = _clues(wiring)
    told = set(clues.parts.values())
    if len(told) < _FEWEST and all(part.layer is None for part in told):
        blocks = regions(wiring)
        clues = Clues({node: Part(f"block {number}", is_block=True) for node, number in blocks.items()})
    return _spread(wiring, clues), clues


def result_parts(
    wiring: Wiring,
    made: Mapping[str, Made],
    source: Mapping[str, Part],
    named: Mapping[str, Part],
) -> dict[ir.Node, Part]:
    """The part of each node of what became of a graph, its nodes by name of the parts `source`.

    A node belongs where most of the nodes belong that it stands for and of which names tell (`named`), and
    else where its results are used.
    """
    clues = Clues(layers=dict(_states(wiring)))
    for node in wiring.nodes:
        name = node_name(node)
        if name not in made:
            if name in source:
                clues.parts[node] = source[name]
            continue
        if node not in wiring.computed:
            continue
        parts = Counter(named[n] for n in made[name].sources if n in named)
        if parts:
            clues.parts[node] = parts.most_common(1)[0][0]
    return _spread(wiring, clues)


def _clues(wiring: Wiring) -> Clues:
    clues = Clues(layers=dict(_states(wiring)))
    for node in wiring.nodes:
        name = node_name(node)
        by_path = _parsed(name) if name.startswith("/") else None
        if by_path is not None and by_path.layer is not None:
            clues.parts[node] = by_path
            continue
        if node in wiring.constant:
            continue
        found = [
            replace(part, name=f"{part.name} rows".strip()) if rows else part
            for weight, rows in wiring.weights(node)
            if (part := _parsed(weight.name or "")) is not None
        ]
        if found:
            clues.parts[node] = next((part for part in found if part.layer is not None), found[0])
    return clues


_NUMBERED = re.compile(r"\d+")


def _parsed(name: str) -> Part | None:
    """The part that a dotted name tells; None where it is of no module."""
    words = [word for word in re.split(r"[./]", name) if word]
    for at in range(1, len(words)):
        if _NUMBERED.fullmatch(words[at]):
            rest = words[at + 1 : -1]
            deeper = 2 if len(rest) > 1 and _NUMBERED.fullmatch(rest[1]) else 1
            return Part(".".join(words[:at]), int(words[at]), ".".join(rest[:deeper]))
    return Part(".".join(words[:-1])) if len(words) > 1 and ":" not in name else None


def _states(wiring: Wiring) -> Iterator[tuple[ir.Node, int]]:
    """Nodes that use an input or make an output with a number in its name, as caches have, and the number.

    Those that ask how long a cache is may do so for all layers.
    """
    ports = [*wiring.graph.inputs, *wiring.graph.outputs]
    for value in ports:
        part = _parsed(value.name or "")
        if part is None or part.layer is None or (value.name or "").endswith(str(part.layer)):
            continue  # "input.1" is numbered too
        maker = wiring.maker(value)
        users = [wiring.top[user] for user, _ in value.uses() if user.op_type not in ("Shape", "Size")]
        for node in (*users, *([maker] if maker is not None else [])):
            yield node, part.layer


def _spread(wiring: Wiring, clues: Clues) -> dict[ir.Node, Part]:
    """The part of every node: its own, that of what uses it, that of what it uses."""
    stacks = Counter(part.stack for part in clues.parts.values() if part.layer is not None)
    main = stacks.most_common(1)[0][0] if stacks else ""
    within, outside = _ancestry(wiring, clues)
    found: dict[ir.Node, Part] = {}
    for node in reversed(wiring.nodes):
        if node in clues.parts:
            found[node] = clues.parts[node]
            continue
        users = sorted((user for user in wiring.users[node] if user in found), key=wiring.at.__getitem__)
        parts = [found[user] for user in users]
        if node in clues.layers:
            layer = clues.layers[node]
            fitting = (part for part in parts if part.layer == layer)
            found[node] = next(fitting, Part(main, layer))
        elif parts:
            found[node] = _common(parts, node in within, outside.get(node))
    for node in wiring.nodes:
        if node not in found:
            makers = [found[maker] for maker in wiring.makers(node) if found.get(maker, SHARED) != SHARED]
            found[node] = makers[-1] if makers else SHARED
    return found


def _common(parts: list[Part], within: bool, outside: Part | None) -> Part:
    """Where something belongs that is used in `parts`, in their order."""
    layers = {(part.stack, part.layer) for part in parts}
    if len(layers) == 1 or within:
        return next((part for part in parts if part != SHARED), SHARED)
    return outside or SHARED


def _ancestry(wiring: Wiring, clues: Clues) -> tuple[set[ir.Node], dict[ir.Node, Part]]:
    """Nodes that what a layer made takes part in, and of the others the part in no layer that does."""
    within: set[ir.Node] = set()
    outside: dict[ir.Node, Part] = {}
    for node in wiring.nodes:
        part = clues.parts.get(node)
        makers = wiring.makers(node)
        layered = node in clues.layers or (part is not None and part.layer is not None)
        if layered or any(maker in within for maker in makers):
            within.add(node)
        elif part is not None:
            outside[node] = part
        else:
            before = (outside[maker] for maker in makers if maker in outside)
            if (first := next(before, None)) is not None:
                outside[node] = first
    return within, outside
