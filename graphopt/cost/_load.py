"""How long it takes from the files of a package to a model that is ready to run."""

from __future__ import annotations

import math

from graphopt.cost._tables import sd_of, spread
from graphopt.cost._work import FLOAT, GraphWork
from graphopt.machine import Interval

__all__ = ["load_time"]

_WEIGHT_BYTES = 2048 * 2048 * (4 + 32 / 128) / 8
"""Bytes of each of the weights in blocks whose opening a profile tells by the byte. They are mapped: one
takes as long as another, whatever its size."""
_PACKAGE = 4e-3
"""Seconds for graphopt.json, its target and the settings. This and what follows is by hand, on one machine: a
profile does not tell it yet."""
_NODE = 2e-5
"""Seconds of a node that reads no weight in blocks: what opens one of these is its node's, too."""
_PACKED, _TURNED = 6e-10, 5e-9
"""Seconds of a byte of a matrix of floats that is packed for its kernel, and of one that is turned first: the
latter was between 3e-9 and 1e-8 from one shape to another."""
_EXPERTS = 1.1e-9
"""Seconds of a byte of experts in blocks, which onnxruntime packs: 1.32, of 128 with 4 bits, 2048 wide."""
_SPREAD = 0.15
_SPREAD_OF_FLOATS = 0.4


def load_time(work: GraphWork, session: Interval, opening: Interval) -> Interval:
    """Seconds as `bench` measures them: files that are in memory, libraries that are imported.

    `session` and `opening` are those of a `Profile`.
    """
    products = [node.product for node in work.nodes if node.product is not None and node.product.name]
    rounded = [one for one in products if one.bits < FLOAT]
    blocks = sum(1 for one in rounded if one.experts == 1)
    experts = sum(one.bytes for one in rounded if one.experts > 1)
    shapes = {weight.name: weight.shape for weight in work.weights}
    floats = {one.name: one for one in products if one.bits >= FLOAT}
    turned = sum(one.bytes for name, one in floats.items() if shapes[name] == (one.n, one.k))
    packing = _PACKED * sum(one.bytes for one in floats.values()) + _TURNED * turned + _EXPERTS * experts
    mapping = blocks * _WEIGHT_BYTES * opening.value
    ready = _PACKAGE + session.value + _NODE * (len(work.nodes) - blocks) + mapping
    errors = (
        session.value * sd_of(session),
        mapping * sd_of(opening),
        _SPREAD * ready,
        _SPREAD_OF_FLOATS * packing,
    )
    return spread(ready + packing, math.hypot(*errors) / (ready + packing))
