"""Values of a graph on many calls, computed a piece of the graph after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.calibrate._data import Feeds
from graphopt.calibrate._front import Front
from graphopt.calibrate._piece import Piece, looked_up, rows_of
from graphopt.errors import BadInput
from graphopt.ir import used_values
from graphopt.runtime import default_threads

__all__ = ["Stream"]

MEMORY = 1 << 30


class Stream:
    """What values of `graph` are in each of `calls`, asked for from its inputs on towards its outputs.

    Between two questions only the front is held: values that are computed and that nodes still to come read.
    Each piece of the graph runs once for every call, with the graph as it is by then: what a pass changed
    behind the values it asked for counts in those it asks for next. So weights of one piece at a time are in
    memory, of a large table only the rows that are looked up, and a pass that quantizes layer after layer
    sees what the quantized ones before it make.

    A question that leads back behind the front is answered from what is held before it, or from the inputs
    again; so is one that an edit behind the front may have changed the answer to.

    `states` are inputs that hold what the call before left, each with the output that it left it as
    (`graphopt.families.Part.states`): a call whose feeds lack one goes on from the call before it. `memory`
    is how many bytes of the front are held; more are written to `folder`, where there is one. Each call runs
    on one thread, and as many at once as there are `threads`: answers do not depend on how many.
    """

    def __init__(
        self,
        graph: ir.Graph,
        calls: Iterable[Feeds],
        *,
        states: Mapping[str, str] | None = None,
        folder: Path | None = None,
        memory: int = MEMORY,
        threads: int | None = None,
    ) -> None:
        self._graph = graph
        self._calls = [dict(feeds) for feeds in calls]
        self._states = dict(states or {})
        self._threads = threads or default_threads()
        self._front = Front(folder, memory)
        self._behind: dict[ir.Node, tuple[ir.Value, ...]] = {}

    def __len__(self) -> int:
        """How many calls there are."""
        return len(self._calls)

    def refuses(self, value: ir.Value) -> str | None:
        """Why `value` cannot be asked for; None where it can."""
        node = value.producer()
        if value.is_initializer():
            return f"{value.name} is a weight"
        if node is None and value in self._graph.inputs:
            return None
        if node is None or node.graph is not self._graph:
            return f"{value.name} is computed in a branch or a loop, any number of times in a call"
        return None

    def values(self, wanted: Sequence[ir.Value]) -> Iterator[list[Any]]:
        """For each call in turn what `wanted` are in it: arrays that are not to be written to.

        The stream moves on when the last call is given out. `ValueError` for what it `refuses`, `BadInput`
        where an array has NaN or infinite entries.
        """
        for value in wanted:
            if reason := self.refuses(value):
                raise ValueError(reason)
        self._front.abandon()
        self._forget_changed()
        self._look_up(wanted)
        fresh = self._with_states(wanted)
        piece = self._ancestors(fresh)
        behind = self._behind | {node: tuple(used_values(node)) for node in piece}
        needed = {value for node in self._graph if node not in behind for value in used_values(node)}
        kept = [v for node in piece for v in node.outputs if v in needed and v not in self._front]
        made = [value for value in dict.fromkeys([*fresh, *kept]) if value.producer() is not None]
        for index, here in enumerate(self._computed(made)):
            answer = [here[v] if v in here else self._known(v, index) for v in wanted]
            for value, array in zip(wanted, answer, strict=True):
                _require_finite(value, array, index)
            for value in kept:
                self._front.add(value, here[value])
            if index == len(self._calls) - 1:
                self._behind = behind
                self._front.publish()
                self._front.keep(needed)
            yield answer

    def _computed(self, made: Sequence[ir.Value]) -> Iterator[dict[ir.Value, Any]]:
        """What `made` are in each call."""
        if not made:
            yield from ({} for _ in self._calls)
            return
        cut = self._front.values()
        piece = Piece(self._graph, made, cut, self._front.dtypes())
        held = {v.name: v for v in cut if v.name is not None and v.name in piece.inputs}
        outputs = {v.name: v for v in self._graph.outputs}
        carried = {name: outputs.get(self._states[name]) for name in piece.inputs if name in self._states}

        def run(indices: Sequence[int]) -> list[list[Any]]:
            found: list[list[Any]] = []
            for index in indices:
                feeds = self._calls[index] | {name: self._front.get(v, index) for name, v in held.items()}
                for name in carried.keys() - feeds.keys():
                    left = carried[name]
                    at = index - 1
                    feeds[name] = self._front.get(left, at) if left in cut else found[-1][made.index(left)]
                found.append(piece.run(feeds))
            return found

        with ThreadPoolExecutor(self._threads) as pool:
            waiting: deque[Future[list[list[Any]]]] = deque()
            for indices in self._chains():
                waiting.append(pool.submit(run, indices))
                if len(waiting) > self._threads:
                    yield from (dict(zip(made, one, strict=True)) for one in waiting.popleft().result())
            for done in waiting:
                yield from (dict(zip(made, one, strict=True)) for one in done.result())

    def _chains(self) -> list[list[int]]:
        """Indices of calls, each that goes on from the one before together with it."""
        found: list[list[int]] = []
        for index, feeds in enumerate(self._calls):
            if index and any(name not in feeds for name in self._states):
                found[-1].append(index)
            else:
                found.append([index])
        return found

    def _known(self, value: ir.Value, index: int) -> Any:
        return self._front.get(value, index) if value in self._front else self._calls[index][value.name or ""]

    def _look_up(self, wanted: Sequence[ir.Value]) -> None:
        """Put rows of large tables that `wanted` need on the front."""
        for node in self._ancestors(wanted):
            table = looked_up(node)
            if table is None:
                continue
            weight, ids = node.inputs
            rows = node.outputs[0]
            assert weight is not None
            assert ids is not None
            found = [rows_of(table, array, weight.name or "a table") for (array,) in self.values([ids])]
            for array in found:
                self._front.add(rows, array)
            self._front.publish()
            self._behind[node] = tuple(used_values(node))

    def _with_states(self, wanted: Sequence[ir.Value]) -> list[ir.Value]:
        """Those of `wanted` to compute, and what calls leave of the states that are read on the way."""
        found = {value: None for value in wanted if value not in self._front}
        if len(self._chains()) == len(self._calls):
            return list(found)
        outputs = {value.name: value for value in self._graph.outputs}
        while True:
            read = {v.name for node in self._ancestors(found) for v in used_values(node)}
            left = [outputs[after] for before, after in self._states.items() if before in read]
            more = [value for value in left if value not in found and value not in self._front]
            if not more:
                return list(found)
            found |= dict.fromkeys(more)

    def _ancestors(self, values: Iterable[ir.Value]) -> dict[ir.Node, None]:
        """Nodes of the graph that `values` need, as far back as the front."""
        found: dict[ir.Node, None] = {}
        stack = list(values)
        while stack:
            value = stack.pop()
            node = value.producer()
            if node is None or node.graph is not self._graph or node in found or value in self._front:
                continue
            found[node] = None
            stack.extend(used_values(node))
        return found

    def _forget_changed(self) -> None:
        """Drop what nodes computed that are gone or read something else now, and what comes after them."""
        readers: dict[ir.Value, list[ir.Node]] = {}
        for node, read in self._behind.items():
            for value in read:
                readers.setdefault(value, []).append(node)
        changed = [
            node
            for node, read in self._behind.items()
            if node.graph is not self._graph or tuple(used_values(node)) != read
        ]
        while changed:
            node = changed.pop()
            if self._behind.pop(node, None) is None:
                continue
            for output in node.outputs:
                self._front.drop(output)
            changed += chain.from_iterable(readers.get(output, ()) for output in node.outputs)


def _require_finite(value: ir.Value, array: Any, index: int) -> None:
    if isinstance(array, np.ndarray) and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadInput(
            f"{value.name} has NaN or infinite entries in call {index + 1} of what it is calibrated on",
            hint="The model breaks down on it, or its weights are damaged.",
        )
