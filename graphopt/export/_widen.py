"""Masks as onnxruntime's Attention wants them."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["widen_masks"]


def widen_masks(model: ir.Model) -> None:
    """Give every mask that is the same for all queries a row for each of them, in place.

    ONNX lets a mask broadcast over the queries of an Attention; onnxruntime takes none but whole ones.
    """
    for node in list(model.graph):
        if node.op_type != "Attention" or node.domain != "" or len(node.inputs) < 4:
            continue
        query, mask = node.inputs[0], node.inputs[3]
        if query is None or mask is None or query.shape is None or mask.shape is None:
            continue
        if len(query.shape) == 4 and len(mask.shape) >= 2 and mask.shape[-2] == 1 and query.shape[2] != 1:
            node.replace_input_with(3, _widened(mask, query, node))


def _widened(mask: ir.Value, query: ir.Value, before: ir.Node) -> ir.Value:
    assert mask.shape is not None
    assert query.shape is not None
    name = before.name or "Attention"
    rows = ir.node("Shape", [query], {"start": 2, "end": 3}, name=f"{name}/rows")
    columns = ir.node("Shape", [mask], {"start": -1}, name=f"{name}/columns")
    size = ir.node("Concat", [rows.outputs[0], columns.outputs[0]], {"axis": 0}, name=f"{name}/mask_size")
    wide = ir.node("Expand", [mask, size.outputs[0]], name=f"{name}/wide_mask")
    assert before.graph is not None
    before.graph.insert_before(before, nodes := [rows, columns, size, wide])
    for node in nodes:
        node.outputs[0].name = node.name
    result = wide.outputs[0]
    result.type = mask.type
    result.shape = ir.Shape([*list(mask.shape)[:-2], query.shape[2], mask.shape[-1]])
    return result
