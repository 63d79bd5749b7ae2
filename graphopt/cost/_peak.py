"""How much memory a process takes that runs a package."""

from __future__ import annotations

from math import exp, sqrt

from graphopt.cost._arena import touched
from graphopt.cost._joined import is_own, joined
from graphopt.cost._package import data_bytes
from graphopt.cost._prediction import Situation
from graphopt.cost._work import FLOAT, Call, GraphWork
from graphopt.ir.operators import BLOCK_EXPERTS, BLOCK_LOOKUP, BLOCK_PRODUCT
from graphopt.machine import Interval, Profile

__all__ = ["peak_memory"]

_PROCESS = 135.4e6
"""Bytes of a process that opened a session of next to nothing, where a profile does not tell: `bench`'s
worker with onnxruntime 1.32 and Python 3.11 on Linux, by hand."""
_NODE = 14.2e3
"""Bytes that a session takes for each node: between sessions of 90, 190 and 330 nodes, by hand."""
_RUNNING = 7e6
"""Bytes that the first call takes whatever it is of: code that is read in (1.6 to 4.5 MB), and buffers."""
_LEFT = 2.0
"""Times as much as a call touches is resident after several: smaller regions of the arena come from malloc's
heap, which keeps what was given back, and regions of the next call are of other sizes. By hand."""
_MAPPED = 32 << 20
"""Bytes from which malloc maps a region, and unmaps it when it is given back (glibc's
DEFAULT_MMAP_THRESHOLD_MAX)."""
_WINDOW, _LARGE = 64 << 10, 2 << 20
"""Bytes of a file that are mapped around a byte that is read: what Linux maps at once (fault_around_bytes),
and a large page. Since Linux 6.18 it is all that lies together in the page cache, up to such a page; our
kernels have files of `_LAID_OUT` and more lie in them, where the file system can. By hand."""
_LAID_OUT = 32 << 20
_COLUMNS = 16
"""MLAS packs columns of a float32 matrix by so many (onnxruntime's core/mlas/lib/sgemm.cpp)."""
_SPREAD = 0.025
"""Of all, what nothing here explains. A judgement."""


def peak_memory(work: GraphWork, profile: Profile, situation: Situation) -> Interval:
    """The most resident bytes of a process that opens a package and answers `situation`, as `bench` measures.

    That is the larger of what opening takes, where matrices of floats are packed and those that lie turned
    are turned first, and of what running takes: the process, weights as they are held, the cache, and the
    arena of the prompt (`touched`). Products in blocks are read from the mapped file, once: onnxruntime's
    kernels copy them instead, and of those that copies take more nothing is told. On a cited machine the
    process is the one measured where this was written.
    """
    process = _PROCESS if profile.process_bytes is None else profile.process_bytes.value
    process += _NODE * len(work.nodes)
    opening, packed = _floats(work)
    cache = work.cache_bytes(situation.batch, situation.prompt + situation.new)
    regions = touched(
        joined(work, profile.identity), Call(situation.batch, situation.prompt, 0), work.outputs[1:]
    )
    small = sum(used for size, used in regions if size < _MAPPED)
    large = sum(used for size, used in regions if size >= _MAPPED)
    blocks, sizes = _mapped(work)
    running = packed + blocks + cache + _RUNNING + _LEFT * small + large
    lies_large = is_own(profile.identity) and data_bytes(work) >= _LAID_OUT
    windows = (_WINDOW, _LARGE if lies_large else _WINDOW, max(sizes, default=1))
    rows = situation.batch * (situation.prompt + situation.new)
    least, value, most = (
        process + max(opening, running + sum(_around(size, rows, window) for size in sizes))
        for window in windows
    )
    rest = (_SPREAD * value) ** 2
    low, high = sqrt(((_LEFT - 1) * small) ** 2 + rest), sqrt((_LEFT / 4 * small) ** 2 + rest)
    return Interval(value=value, low=least - low, high=most + high)


def _floats(work: GraphWork) -> tuple[float, float]:
    """Bytes that matrices of floats take at most while they are packed one by one, and packed.

    What lies turned or in half precision is made anew first, all of it.
    """
    shapes = {weight.name: weight for weight in work.weights}
    found = {
        node.product.name: node.product
        for node in work.nodes
        if node.product is not None and node.product.name and node.product.bits >= FLOAT
    }
    sizes = {
        name: 4.0 * one.experts * one.k * -(-one.n // _COLUMNS) * _COLUMNS for name, one in found.items()
    }
    made = {
        name: size
        for name, size in sizes.items()
        if shapes[name].bits < 32 or shapes[name].shape == (found[name].n, found[name].k)
    }
    most = packed = 0.0
    waiting = sum(made.values())
    for name, size in sizes.items():
        packed += size
        most = max(most, packed + waiting)
        waiting -= made.get(name, 0.0)
    return most, packed


def _mapped(work: GraphWork) -> tuple[float, list[int]]:
    """Of the file of weights, which is read where it lies: bytes of blocks, tables of blocks with them, and
    of each table of floats. What a table has in another shape than the product is mapped once more."""
    blocks = {u.name for n in work.nodes if n.operator in (BLOCK_PRODUCT, BLOCK_EXPERTS) for u in n.weights}
    looked_up = {use.name for node in work.nodes if node.kind == "lookup" for use in node.weights} - blocks
    sizes = {weight.name: weight.bytes for weight in work.weights}
    shared = [node.weights for node in work.nodes if node.operator == BLOCK_LOOKUP]
    again = [uses[0].name if len(uses) > 2 else uses[1].name for uses in shared]
    return float(sum(sizes[name] for name in blocks)), [sizes[name] for name in (*looked_up, *again)]


def _around(size: int, rows: int, window: int) -> float:
    """Bytes of a table of `size` that lie in the windows of so many rows at random."""
    return size * (1 - exp(-rows / max(size / window, 1)))
