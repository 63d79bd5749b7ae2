"""A graph before and after, at the level of layers and their parts: data for a page that draws it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["GraphEdge", "GraphGroup", "GraphSide", "GraphView", "NodeEntry", "NodeOrigin", "OperatorShare"]


class _Model(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings", defer_build=True)


class NodeEntry(_Model):
    """A node: its name, its operator (with the domain where that is not ONNX's) and the edit that made it.

    `edit` is STEP:NUMBER, a key of its group's `origins`; empty where the node is the source's own.
    """

    name: str
    operator: str
    edit: str = ""


class NodeOrigin(_Model):
    """What the nodes of one edit stand for: nodes of the source, by name, and `left_out` more of them.

    `through` are the edits (STEP:NUMBER, in the order they were made) that turned these into something in
    between first.
    """

    sources: list[str] = Field(default_factory=list)
    left_out: int = 0
    through: list[str] = Field(default_factory=list)


class GraphGroup(_Model):
    """Nodes that are a part of the model: of a layer, or before, after or between layers.

    Both sides of a view have the same `id` for what stands for the same. `layer` counts as the model does;
    None is no layer's. `weight_bytes` are of weights that no earlier group uses, as they are stored; `flops`
    of a call where every size that varies is 1 (`graphopt.evaluate.step_cost`). `seconds` is what it took,
    where that was measured. `fused`: some of its nodes stand for several of the source's. `passes` are the
    steps that made nodes of it or what these were made from, in the order they ran, `edits` the same as
    STEP:NUMBER. `x` and `y` are where it is drawn, in places: y counts from the inputs on, x to both sides of
    0. `nodes_left_out` more nodes are not listed.
    """

    id: str
    title: str
    layer: int | None = None
    operators: dict[str, int] = Field(default_factory=dict)
    nodes: int
    weight_bytes: int = 0
    flops: int = 0
    seconds: float | None = None
    fused: bool = False
    passes: list[str] = Field(default_factory=list)
    edits: list[str] = Field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    nodes_listed: list[NodeEntry] = Field(default_factory=list)
    nodes_left_out: int = 0
    origins: dict[str, NodeOrigin] = Field(default_factory=dict)


class GraphEdge(_Model):
    """Values that one group makes and another uses, by their `id`s, and how many."""

    source: str
    target: str
    values: int = 1


class OperatorShare(_Model):
    """All nodes of one operator: how many, and their bytes, operations and seconds as groups have them."""

    operator: str
    nodes: int
    weight_bytes: int = 0
    flops: int = 0
    seconds: float | None = None


class GraphSide(_Model):
    """One graph: its groups in the order of its nodes, what goes from group to group, and its operators, the
    one with most bytes first. `seconds_elsewhere` were spent in what is no node of it, where measured."""

    groups: list[GraphGroup] = Field(default_factory=list)
    edges: list[GraphEdge] = Field(default_factory=list)
    operators: list[OperatorShare] = Field(default_factory=list)
    seconds_elsewhere: float = 0.0

    @property
    def nodes(self) -> int:
        """How many nodes the graph has, subgraphs included."""
        return sum(group.nodes for group in self.groups)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(group.weight_bytes for group in self.groups)

    @property
    def flops(self) -> int:
        """Operations of one call where every size that varies is 1."""
        return sum(group.flops for group in self.groups)

    def group(self, id: str) -> GraphGroup | None:
        """The group of this `id`, if it has one."""
        return next((group for group in self.groups if group.id == id), None)

    def timed(self, seconds: Mapping[str, float]) -> GraphSide:
        """The same with the `seconds` of its nodes, by name, added up by group and by operator.

        What a runtime makes of a node is called after it: "node/Fusion" counts as "node".
        """
        known = {node.name for group in self.groups for node in group.nodes_listed}
        took: dict[str, float] = {}
        elsewhere = 0.0
        for name, spent in seconds.items():
            owner = next((one for one in _prefixes(name) if one in known), None)
            if owner is None:
                elsewhere += spent
            else:
                took[owner] = took.get(owner, 0.0) + spent
        groups = []
        by_operator: dict[str, float] = {}
        for group in self.groups:
            own = [(node.operator, took.pop(node.name, 0.0)) for node in group.nodes_listed]
            for operator, spent in own:
                by_operator[operator] = by_operator.get(operator, 0.0) + spent
            groups.append(group.model_copy(update={"seconds": sum(spent for _, spent in own)}))
        operators = [
            one.model_copy(update={"seconds": by_operator.get(one.operator, 0.0)}) for one in self.operators
        ]
        return self.model_copy(
            update={"groups": groups, "operators": operators, "seconds_elsewhere": elsewhere}
        )


def _prefixes(name: str) -> Iterator[str]:
    """`name`, and what stands before each slash in it, the longest first."""
    while name:
        yield name
        name = name.rpartition("/")[0]


class GraphView(_Model):
    """A graph of the source, and what became of it in the package."""

    before: GraphSide
    after: GraphSide

    def timed(self, seconds: Mapping[str, float], before: Mapping[str, float] | None = None) -> GraphView:
        """The same with the seconds that nodes of the package took, and maybe of the source, by name: see
        `GraphSide.timed`."""
        sides = {"after": self.after.timed(seconds)}
        if before is not None:
            sides["before"] = self.before.timed(before)
        return self.model_copy(update=sides)
