"""Values of a graph on many calls, computed a piece of the graph after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate._data import Feeds
from graphopt.ir import extract, to_proto, used_values
from graphopt.runtime import default_threads, plain_options

__all__ = ["Stream"]

Array = NDArray[Any]


class Stream:
    """What values of `graph` are in each of `calls`, asked for from its inputs on towards its outputs.

    Between two questions only the front is held: values that are computed and that nodes still to come read.
    Each piece of the graph runs once for every call, with the graph as it is by then: what a pass changed
    behind the values it asked for counts in those it asks for next. So weights of one piece at a time are in
    memory, and a pass that quantizes layer after layer sees what the quantized ones before it make.

    A question that leads back behind the front, after an edit there, is answered from the inputs again.
    """

    def __init__(self, graph: ir.Graph, calls: Iterable[Feeds], *, threads: int | None = None) -> None:
        self._graph = graph
        self._calls = [dict(feeds) for feeds in calls]
        self._threads = threads or default_threads()
        self._front: dict[ir.Value, list[Array]] = {}
        self._behind: set[ir.Node] = set()

    def __len__(self) -> int:
        """How many calls there are."""
        return len(self._calls)

    def values(self, wanted: Sequence[ir.Value]) -> Iterator[list[Array]]:
        """For each call in turn what `wanted` are in it.

        The stream moves on once the last call was given out.
        """
        fresh = [value for value in wanted if value not in self._front]
        piece = self._ancestors(fresh)
        behind = self._behind | piece
        needed = self._needed(behind)
        kept = [v for node in self._graph if node in piece for v in node.outputs if v in needed]
        inputs = [value for value in self._graph.inputs if value not in self._front]
        made = list(dict.fromkeys([*fresh, *kept]))
        session, names = self._session(made, inputs)
        front: dict[ir.Value, list[Array]] = {value: [] for value in kept}
        for index, feeds in enumerate(self._calls):
            here = self._run(session, names, made, index, feeds)
            for value in kept:
                front[value].append(here[value])
            yield [here[value] if value in here else self._held(value, index, feeds) for value in wanted]
        self._behind = behind
        self._front = {v: held for v, held in self._front.items() if v in needed} | front

    def _held(self, value: ir.Value, index: int, feeds: Feeds) -> Array:
        return self._front[value][index] if value in self._front else feeds[value.name or ""]

    def _run(
        self, session: Any, names: Sequence[str], made: Sequence[ir.Value], index: int, feeds: Feeds
    ) -> dict[ir.Value, Array]:
        if session is None:
            return {}
        given: Mapping[str, Array] = dict(feeds) | {
            v.name or "": held[index] for v, held in self._front.items()
        }
        results = session.run(None, {name: given[name] for name in names})
        return dict(zip(made, map(np.asarray, results), strict=True))

    def _session(self, made: Sequence[ir.Value], inputs: Sequence[ir.Value]) -> tuple[Any, list[str]]:
        computed = [value for value in made if value not in inputs]
        if not computed:
            return None, []
        import onnxruntime as ort

        piece = extract(self._graph, computed, cut=self._front.keys())
        proto = to_proto(piece)
        for output in proto.graph.output:
            if output.type.HasField("tensor_type"):
                output.type.tensor_type.ClearField("shape")
        session = ort.InferenceSession(
            proto.SerializeToString(),
            plain_options(threads=self._threads),
            providers=["CPUExecutionProvider"],
        )
        return session, [given.name for given in session.get_inputs()]

    def _ancestors(self, values: Iterable[ir.Value]) -> set[ir.Node]:
        """Nodes of the graph that `values` need and that are not behind the front."""
        found: set[ir.Node] = set()
        stack = list(values)
        while stack:
            value = stack.pop()
            node = value.producer()
            if node is None or node.graph is not self._graph or node in found or value in self._front:
                continue
            found.add(node)
            stack.extend(used_values(node))
        return found

    def _needed(self, behind: set[ir.Node]) -> set[ir.Value]:
        """What nodes that are not `behind` read, and what the graph gives out."""
        read = {value for node in self._graph if node not in behind for value in used_values(node)}
        return read | set(self._graph.outputs)
