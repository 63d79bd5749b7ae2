"""How many bits an entry of a quantized weight takes."""

from __future__ import annotations

from collections.abc import Iterable
from math import nan, prod

import onnx_ir as ir

from graphopt.ir import MICROSOFT, content_of
from graphopt.ir.operators import BLOCK_PARTS

__all__ = ["bits_a_weight"]

_USUAL = 4  # the bits of both where no attribute says otherwise


def bits_a_weight(models: Iterable[ir.Model]) -> float:
    """Of weights that products or lookups read in blocks, each once, the mean; NaN where there is none."""
    size, entries = dict[object, int](), dict[object, int]()
    for model in models:
        for node in model.graph.all_nodes():
            if node.domain != MICROSOFT or node.op_type not in BLOCK_PARTS:
                continue
            places = [place for place in BLOCK_PARTS[node.op_type] if place < len(node.inputs)]
            held = [v.const_value for v in (node.inputs[place] for place in places) if v is not None]
            parts = [tensor for tensor in held if tensor is not None]
            if parts:
                size |= {content_of(tensor): tensor.nbytes for tensor in parts}
                entries[content_of(parts[0])] = _entries(node, parts[0])
    return 8 * sum(size.values()) / sum(entries.values()) if entries else nan


def _entries(node: ir.Node, levels: ir.TensorProtocol) -> int:
    rows, columns = node.attributes.get_int("N", 0), node.attributes.get_int("K", 0)
    return rows * columns or prod(levels.shape.numpy()) * 8 // node.attributes.get_int("bits", _USUAL)
