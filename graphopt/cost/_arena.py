"""onnxruntime's arena for tensors, replayed: how much of its memory is touched by a call."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphopt.cost._work import Call, NodeWork

__all__ = ["touched"]

_STEP = 256
"""Bytes that every allocation is a multiple of."""
_FIRST = 1 << 20
_DEAD = 128 << 20
"""Bytes from which what is left over of a chunk is cut off, however much was asked for."""


def touched(nodes: Sequence[NodeWork], call: Call, kept: Iterable[str]) -> list[tuple[int, int]]:
    """Of each region of the arena its size, and bytes of it that hold results at some time of `call`.

    Results that are `kept` lie elsewhere.

    A result is freed after the last node that reads it. The arena is onnxruntime's for CPUs as its sessions
    have it by default (core/framework/bfc_arena.cc, after TensorFlow's): the smallest free chunk that holds
    what is asked for, cut where at least half of it is left, neighbours joined when they are free, and new
    regions each twice as large as the last. What lies in a region beyond all that was ever in it is never
    touched, and so takes no memory.
    """
    elsewhere = set(kept)
    readers = Counter(name for node in nodes for name in set(node.operands))
    arena, places = _Arena(), {}
    for node in nodes:
        for result in node.results:
            if result.name not in elsewhere:
                places[result.name] = arena.allocate(result.bytes(call))
        unread = [result.name for result in node.results if not readers[result.name]]
        for name in {*node.operands, *unread}:
            readers[name] -= 1
            if readers[name] <= 0 and name in places:
                arena.free(places.pop(name))
    return [(sum(chunk.size for chunk in one.chunks), one.touched) for one in arena.regions]


@dataclass
class _Chunk:
    region: _Region
    start: int
    size: int
    is_free: bool = True


@dataclass
class _Region:
    """`chunks` in the order of their places; `number` is that of the region."""

    number: int
    chunks: list[_Chunk] = field(default_factory=list)
    touched: int = 0


@dataclass
class _Arena:
    regions: list[_Region] = field(default_factory=list)
    _next: int = _FIRST
    _free: list[tuple[int, int, int, _Chunk]] = field(default_factory=list)

    def allocate(self, size: int) -> _Chunk:
        wanted = max(-(-size // _STEP) * _STEP, _STEP)
        found = next((entry for entry in self._free if entry[0] >= wanted), None)
        if found is None:
            self._extend(wanted)
            found = next(entry for entry in self._free if entry[0] >= wanted)
        self._free.remove(found)
        chunk = found[3]
        if chunk.size >= 2 * wanted or chunk.size - wanted >= _DEAD:
            rest = _Chunk(chunk.region, chunk.start + wanted, chunk.size - wanted)
            chunk.region.chunks.insert(chunk.region.chunks.index(chunk) + 1, rest)
            chunk.size = wanted
            self._put(rest)
        chunk.is_free = False
        chunk.region.touched = max(chunk.region.touched, chunk.start + size)
        return chunk

    def free(self, chunk: _Chunk) -> None:
        chunks = chunk.region.chunks
        chunk.is_free = True
        place = chunks.index(chunk)
        if place + 1 < len(chunks) and chunks[place + 1].is_free:
            other = chunks.pop(place + 1)
            self._take(other)
            chunk.size += other.size
        if place and chunks[place - 1].is_free:
            other = chunks.pop(place - 1)
            self._take(other)
            chunk.start, chunk.size = other.start, chunk.size + other.size
        self._put(chunk)

    def _extend(self, wanted: int) -> None:
        is_enough = wanted <= self._next
        while self._next < wanted:
            self._next *= 2
        region = _Region(len(self.regions))
        region.chunks.append(_Chunk(region, 0, self._next))
        self.regions.append(region)
        self._put(region.chunks[0])
        if is_enough:
            self._next *= 2

    def _put(self, chunk: _Chunk) -> None:
        entry = (chunk.size, chunk.region.number, chunk.start, chunk)
        insort(self._free, entry, key=lambda entry: entry[:3])

    def _take(self, chunk: _Chunk) -> None:
        self._free = [entry for entry in self._free if entry[3] is not chunk]
