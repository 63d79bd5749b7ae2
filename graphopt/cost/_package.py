"""How large the files of a package are."""

from __future__ import annotations

from pathlib import Path

from graphopt.cost._work import GraphWork
from graphopt.ir import data_file_bytes
from graphopt.ir.operators import BLOCK_LOOKUP

__all__ = ["beside_weights", "data_bytes", "package_bytes", "weight_bytes"]


def weight_bytes(work: GraphWork) -> int:
    """Of all weights, those that share their bytes once."""
    return work.weight_bytes


def data_bytes(work: GraphWork) -> int:
    """Of the file of weights beside the graph, exactly, where `work.weights` are in its order."""
    # A table's scales are written once in two shapes.
    shared = any(node.operator == BLOCK_LOOKUP for node in work.nodes)
    return data_file_bytes([weight.bytes for weight in work.weights], shared=shared)


def package_bytes(work: GraphWork) -> int:
    """Of all files: that of weights, and what `work.other_bytes` says lies beside it."""
    return data_bytes(work) + work.other_bytes


def beside_weights(folder: Path) -> int:
    """Bytes of all files in a package but those of weights: graph, tokenizer, settings, report."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".data")
