"""A graph as it is beside the same graph with a few values changed, on the same calls."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate._data import Feeds
from graphopt.calibrate._piece import Piece
from graphopt.ir import used_values
from graphopt.runtime import default_threads

__all__ = ["Branches"]

Array = NDArray[Any]
Make = Callable[[Array], Array]
_Front = dict[ir.Value, list[Array]]
E = TypeVar("E")
T = TypeVar("T")


@dataclass(frozen=True)
class _Change:
    """`value` is what `make` makes of `of`."""

    value: ir.Value
    make: Make
    of: ir.Value


class Branches:
    """Values of `graph` in each of `calls`, from its inputs on towards `outputs`, in several branches.

    A branch begins where `change` says that a value is another. From there on it has values of its own
    wherever they depend on it, and those of the trunk, the graph as it is, elsewhere. All branches go through
    a piece of the graph together: one piece's weights are in memory at a time, and what a change does to the
    output costs the way from there.

    Each call of each branch runs on one thread, and as many at once as there are `threads`: results do not
    depend on how many.
    """

    def __init__(
        self,
        graph: ir.Graph,
        calls: Iterable[Feeds],
        outputs: Sequence[ir.Value],
        *,
        threads: int | None = None,
    ) -> None:
        self._graph, self._outputs = graph, list(outputs)
        nodes = _ancestors(graph, outputs, ())
        self._nodes = [node for node in graph if node in nodes]
        self._calls = [dict(feeds) for feeds in calls]
        self._trunk: _Front = {}
        self._own: dict[Hashable, _Front] = {}
        self._behind: set[ir.Node] = set()
        self._late: dict[Hashable, _Change] = {}
        self._pool = ThreadPoolExecutor(threads or default_threads())

    def __len__(self) -> int:
        """How many calls there are."""
        return len(self._calls)

    def advance(self, wanted: Sequence[ir.Value]) -> None:
        """Go on until `wanted` are known in every branch.

        They, and what nodes still to come read, are known until the next call.
        """
        piece = _ancestors(self._graph, wanted, self._trunk)
        behind = self._behind | piece
        ahead = (node for node in self._nodes if node not in behind)
        needed = {*self._outputs, *wanted, *(value for node in ahead for value in used_values(node))}
        made = [v for node in self._graph if node in piece for v in node.outputs if v in needed]
        changed = {name: self._reached(piece, own) for name, own in self._own.items()}
        runs = [None, *(name for name, reached in changed.items() if not reached.isdisjoint(made))]
        results = self._computed(made, runs)
        self._trunk = {v: a for v, a in self._trunk.items() if v in needed} | results[None]
        for name, own in self._own.items():
            later = {v: a for v, a in results.get(name, {}).items() if v in changed[name]}
            self._own[name] = {v: a for v, a in own.items() if v in needed} | later
        self._behind = behind

    def values(self, value: ir.Value, name: Hashable | None = None) -> list[Array]:
        """What `value` is in each call, in the branch of that `name`; in the trunk where it has none."""
        own = self._own.get(name, {})
        if value in own or value in self._trunk:
            return own[value] if value in own else self._trunk[value]
        return [feeds[value.name or ""] for feeds in self._calls]

    def change(self, name: Hashable, value: ir.Value, make: Make, of: ir.Value) -> None:
        """In the branch of that name, which begins here if there is none, `value` is `make` of what `of` is.

        `of` is known. Where `value` is not, which may be one value and the last that is changed, it is made
        when outputs are.
        """
        if value not in self._trunk:
            self._late[name] = _Change(value, make, of)
            self._own.setdefault(name, {})
        else:
            made = list(self._pool.map(make, self.values(of, name)))
            self._own.setdefault(name, {})[value] = made

    def compared(
        self, expect: Callable[[Sequence[Array]], E], found: Callable[[E, Sequence[Array]], T]
    ) -> dict[Hashable, list[T]]:
        """For each branch and call what `found` makes of outputs beside what `expect` made of the trunk's.

        None are held but those that are being compared.
        """
        end, results = self._end(), {name: list[T]() for name in self._own}
        for call in range(len(self)):
            expected = expect(end(call, None))
            names = list(results)
            compare = functools.partial(_compared, end, found, expected, call)
            for name, one in zip(names, self._pool.map(compare, names), strict=True):
                results[name].append(one)
        return results

    def ends(self, changed: Mapping[ir.Value, Sequence[Array]]) -> Iterator[list[Array]]:
        """The outputs in each call of the trunk, where values known or still to come are as in `changed`."""
        known = {*self._trunk, *changed}
        made = [value for value in self._outputs if value not in known]
        piece = self._piece(made, known)
        for call in range(len(self)):
            given = self._at(call, None) | {v.name or "": arrays[call] for v, arrays in changed.items()}
            given |= _named(made, piece, given)
            yield [given[value.name or ""] for value in self._outputs]

    def _end(self) -> Callable[[int, Hashable | None], list[Array]]:
        """What gives the outputs in a call of a branch."""
        cut = list(dict.fromkeys(change.value for change in self._late.values()))
        first = self._piece(cut, self._trunk)
        whole = [output for output in self._outputs if output not in cut and output not in self._trunk]
        last = self._piece(whole, {*self._trunk, *cut})

        def end(call: int, name: Hashable | None) -> list[Array]:
            given, change = self._at(call, name), self._late.get(name)
            if change is None:
                given |= _named(cut, first, given)
            else:
                given[change.value.name or ""] = change.make(given[change.of.name or ""])
            given |= _named(whole, last, given)
            return [given[output.name or ""] for output in self._outputs]

        return end

    def _computed(
        self, made: Sequence[ir.Value], names: Sequence[Hashable | None]
    ) -> dict[Hashable | None, _Front]:
        """`made` in each call of these branches."""
        piece = self._piece(made, self._trunk)
        tasks = [(name, call) for name in names for call in range(len(self))]
        results = list(self._pool.map(lambda task: _run(piece, self._at(task[1], task[0])), tasks))
        found: dict[Hashable | None, _Front] = {name: {value: [] for value in made} for name in names}
        for (name, _), arrays in zip(tasks, results, strict=True):
            for value, array in zip(made, arrays, strict=True):
                found[name][value].append(array)
        return found

    def _piece(self, made: Sequence[ir.Value], known: Collection[ir.Value]) -> Piece | None:
        if not made:
            return None
        dtypes = {value.name or "": held[0].dtype for value, held in self._trunk.items()}
        return Piece(self._graph, made, known, dtypes)

    def _at(self, call: int, name: Hashable | None) -> dict[str, Array]:
        """What is known in a call, by name."""
        given = dict(self._calls[call])
        for front in (self._trunk, self._own.get(name, {})):
            given |= {value.name or "": held[call] for value, held in front.items()}
        return given

    def _reached(self, piece: Collection[ir.Node], changed: Iterable[ir.Value]) -> set[ir.Value]:
        """`changed`, and what of `piece` depends on it."""
        found = set(changed)
        for node in self._nodes:
            if node in piece and not found.isdisjoint(used_values(node)):
                found.update(node.outputs)
        return found


def _compared(
    end: Callable[[int, Hashable | None], Sequence[Array]],
    found: Callable[[E, Sequence[Array]], T],
    expected: E,
    call: int,
    name: Hashable,
) -> T:
    return found(expected, end(call, name))


def _run(piece: Piece | None, given: dict[str, Array]) -> list[Array]:
    return [] if piece is None else piece.run(given)


def _named(values: Sequence[ir.Value], piece: Piece | None, given: dict[str, Array]) -> dict[str, Array]:
    return {v.name or "": array for v, array in zip(values, _run(piece, given), strict=True)}


def _ancestors(graph: ir.Graph, values: Iterable[ir.Value], known: Collection[ir.Value]) -> set[ir.Node]:
    """The nodes of `graph` that `values` need, where those in `known` are."""
    found: set[ir.Node] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        node = value.producer()
        if node is None or node.graph is not graph or node in found or value in known:
            continue
        found.add(node)
        stack.extend(used_values(node))
    return found
