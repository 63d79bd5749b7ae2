"""How large the files of a package are."""

from __future__ import annotations

from graphopt.cost._work import FLOAT, GraphWork
from graphopt.ir import data_file_bytes, inside_bytes
from graphopt.ir.operators import BLOCK_LOOKUP
from graphopt.machine import Interval

__all__ = ["DOCUMENT", "LAYER", "NODE", "data_bytes", "package_bytes", "package_interval", "weight_bytes"]

DOCUMENT = 480_000
"""Bytes that are written about any package: two thirds of them what draws in report.html. This and what
follows is by hand, of packages of 6, 16 and 30 layers; a test holds it to those that are made now."""
LAYER = 71_000
"""Bytes that are written of a layer of a decoder: nodes before and after and edits in report.json and
report.html, caches in graphopt.json, names in the .onnx file."""
NODE = 490
"""The same of a node of a source; a decoder's layer has about 148."""
_IN_BLOCKS = 1750
"""Bytes that are written of a weight in blocks more than of one of floats."""
_CHANNEL, _CLIPPED = 44, 1800
"""Bytes that are written of a channel of a cache in integers, and of its layer: where it is clipped."""
_COMPARED = 45_000
"""Half of what is written where a package of floats was compared: of each output in each case, twice."""
_SPREAD = 0.06
"""Of what is written about a package. A judgement: other exporters leave other nodes, and what was compared
is in the report, too."""


def weight_bytes(work: GraphWork) -> int:
    """Of all weights, those that share their bytes once."""
    return work.weight_bytes


def data_bytes(work: GraphWork) -> int:
    """Of the file of weights beside the graph, exactly, where `work.weights` are in its order and no two of
    them are the same by chance."""
    return data_file_bytes([weight.bytes for weight in work.weights], shared=_shares(work))


def package_bytes(work: GraphWork) -> int:
    """Of all files: of weights, of what is taken over from the source, and of what is written about them."""
    return sum(_parts(work))


def package_interval(work: GraphWork) -> Interval:
    """`package_bytes`, and how far off what is written about a package may be. Weights are counted."""
    counted, told = _parts(work)
    value, spread = counted + told, round(_SPREAD * told)
    return Interval(value=value, low=value - spread, high=value + spread)


def _shares(work: GraphWork) -> bool:
    """Whether weights share bytes: a table's scales are written once in two shapes."""
    return any(node.operator == BLOCK_LOOKUP for node in work.nodes)


def _parts(work: GraphWork) -> tuple[int, int]:
    """What is counted, and what is estimated."""
    inside = inside_bytes([weight.bytes for weight in work.weights], shared=_shares(work))
    counted = data_bytes(work) + inside + work.other_bytes
    if not work.told_bytes:
        return counted, 0
    products = sum(1 for n in work.nodes if n.product is not None and n.product.bits < FLOAT)
    heads = [n.attention for n in work.nodes if n.attention is not None and n.attention.cache_bits < FLOAT]
    channels = sum(2 * one.kv_heads * one.head_size for one in heads)
    told = _IN_BLOCKS * products if products else _COMPARED
    return counted, work.told_bytes + told + _CLIPPED * len(heads) + _CHANNEL * channels
