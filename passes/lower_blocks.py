"""lower-blocks: products and lookups of weights in blocks become ONNX's own operators."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import MICROSOFT, BlockIntegers, Expr, LazyTensor, Reshaped, Transposed, has_data, lazy
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

_BITS = (4, 8)
_BYTE = 8


class LowerBlocks(Pass):
    """Weights in blocks, dequantized by ONNX's own operators, for runtimes that have no others.

    Before: MatMulNBits(x, W, scales, zeros)
    After:  MatMul(x, DequantizeLinear(W, scales, zeros)), W int4 or int8 [K, N], uint4 or uint8 with zeros
    Before: GatherBlockQuantized(table, ids, scales, zeros)
    After:  the rows' bytes, taken apart by BitwiseAnd and BitShift; as floats, less zeros, times scales;
            zeros where there is no such row
    The product is that of float32, so the level of MatMulNBits has to be one that computes in floats (0 or
    1): otherwise its kernel rounds x.
    Refuses: 2 bits, for which there is no type before opset 25; level 4; an order of columns (g_idx); zero
    points in floats; a weight that is computed; a lookup by another axis than the first, or of unknown rank.
    """

    name: ClassVar[str] = "lower-blocks"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(21, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != MICROSOFT or node.op_type not in ("MatMulNBits", "GatherBlockQuantized"):
                continue
            found = _read(node)
            if isinstance(found, str):
                yield NearMiss(node.name or node.op_type, found)
            elif node.op_type == "MatMulNBits":
                yield _product(node, found)
            else:
                yield _lookup(node, found)


@dataclass(frozen=True)
class _Blocks:
    """uint8 [rows, blocks, bytes], scales float32 [rows, blocks], perhaps zeros uint8 [rows, bytes]."""

    packed: Expr
    scales: Expr
    zeros: Expr | None
    bits: int
    block: int
    width: int


def _read(node: ir.Node) -> _Blocks | str:
    is_product = node.op_type == "MatMulNBits"
    bits, block = node.attributes.get_int("bits", 4), node.attributes.get_int("block_size", 128)
    at = (1, 2, 3) if is_product else (0, 2, 3)
    held = [node.inputs[i] if i < len(node.inputs) else None for i in at]
    if bits not in _BITS:
        return f"ONNX has no type of {bits} bits before opset 25"
    if any(value is not None and not _is_known(value) for value in held):
        return "its weight is computed"
    if is_product and node.attributes.get_int("accuracy_level", 0) not in (0, 1):
        return "its kernel rounds what it multiplies"
    if is_product and len(node.inputs) > 4 and node.inputs[4] is not None:
        return "its columns are in another order than its blocks"
    if not is_product and (reason := _not_by_rows(node, held[0])) is not None:
        return reason
    packed, scales, zeros = (
        None if value is None or value.const_value is None else lazy(value.const_value) for value in held
    )
    assert packed is not None
    assert scales is not None
    if scales.dtype != ir.DataType.FLOAT:
        return f"its scales are {scales.dtype}, not float32"
    if zeros is not None and zeros.dtype != ir.DataType.UINT8:
        return "its zero points are floats"
    rows = packed.shape[0]
    blocks = prod(scales.shape) // rows
    return _Blocks(
        Reshaped(packed, (rows, blocks, block * bits // _BYTE)),
        Reshaped(scales, (rows, blocks)),
        None if zeros is None else Reshaped(zeros, (rows, -(-blocks * bits // _BYTE))),
        bits,
        block,
        node.attributes.get_int("K", blocks * block),
    )


def _is_known(value: ir.Value) -> bool:
    return value.const_value is not None and has_data(value.const_value) and not value.is_graph_input()


def _not_by_rows(node: ir.Node, table: ir.Value | None) -> str | None:
    ids = node.inputs[1]
    if ids is None or ids.shape is None:
        return "the rank of its indices is unknown"
    assert table is not None
    assert table.const_value is not None
    if table.dtype != ir.DataType.UINT8:
        return f"its table is {table.dtype}, not packed bytes"
    axis = node.attributes.get_int("quantize_axis", 1)
    if node.attributes.get_int("gather_axis", 0) or axis % len(table.const_value.shape) == 0:
        return "it looks up by another axis than the first"
    return None


def _product(node: ir.Node, found: _Blocks) -> Edit:
    new = Nodes(node.name or "MatMul")
    x, old = node.inputs[0], node.outputs[0]
    held = [
        new.weight(LazyTensor(Transposed(part, (1, 0))), f"{new.base}/{label}")
        for label, part in (
            ("integers", BlockIntegers(found.packed, found.bits, found.width, found.zeros is None)),
            ("scales", found.scales),
            *([("zeros", _zeros(found))] if found.zeros is not None else []),
        )
    ]
    shape = [found.width, found.packed.shape[0]]
    weight = new.op(
        "DequantizeLinear",
        held,
        "weight",
        dtype=ir.DataType.FLOAT,
        shape=shape,
        axis=0,
        block_size=found.block,
    )
    y = new.op("MatMul", [x, weight], "product", like=old)
    bias = node.inputs[5] if len(node.inputs) > 5 else None
    if bias is not None:
        y = new.op("Add", [y, bias], "bias", like=old)
    return Edit(
        f"{found.bits}-bit weight in blocks of {found.block}, as DequantizeLinear",
        remove=[node],
        insert=new.nodes,
        initializers=new.initializers,
        replace={old: y},
    )


def _zeros(found: _Blocks) -> Expr:
    """Zero points [rows, blocks]."""
    assert found.zeros is not None
    rows, count = found.zeros.shape
    packed = Reshaped(found.zeros, (rows, 1, count))
    return BlockIntegers(packed, found.bits, found.packed.shape[1], False)


def _lookup(node: ir.Node, found: _Blocks) -> Edit:
    new = Nodes(node.name or "Gather")
    ids, old = node.inputs[1], node.outputs[0]
    assert ids is not None
    assert ids.shape is not None
    rows, blocks = found.packed.shape[:2]
    outer: list[int | str | ir.SymbolicDim | None] = list(ids.shape)
    size = blocks * found.block * found.bits // _BYTE
    table = new.weight(LazyTensor(Reshaped(found.packed, (rows, size))), f"{new.base}/bytes")
    scales = new.weight(LazyTensor(found.scales), f"{new.base}/scales")
    ids, has_row = _within(new, ids, rows)
    taken = new.op("Gather", [table, ids], "row", dtype=ir.DataType.UINT8, axis=0)
    integers = _apart(new, taken, found.bits, [*[0] * len(outer), blocks, found.block], "integers")
    if found.zeros is None:
        zero = new.constant(np.float32(1 << (found.bits - 1)), np.float32, "zero")
    else:
        points_of_rows = new.weight(LazyTensor(found.zeros), f"{new.base}/zeros")
        chosen = new.op("Gather", [points_of_rows, ids], "zero_row", dtype=ir.DataType.UINT8, axis=0)
        per = found.zeros.shape[1] * _BYTE // found.bits
        points = _apart(new, chosen, found.bits, [*[0] * len(outer), per, 1], "zero_points")
        first, last = new.constant([0], np.int64, "first"), new.constant([blocks], np.int64, "last")
        axis = new.constant([len(outer)], np.int64, "axis")
        zero = new.op("Slice", [points, first, last, axis], "zero", dtype=ir.DataType.FLOAT)
    centred = new.op("Sub", [integers, zero], "centred", dtype=ir.DataType.FLOAT)
    column = new.constant([-1], np.int64, "column")
    there = new.op("Unsqueeze", [has_row, column], "there", dtype=ir.DataType.FLOAT)
    factors = new.op("Gather", [scales, ids], "scale_row", dtype=ir.DataType.FLOAT, axis=0)
    factors = new.op("Mul", [factors, there], "scale_or_zero", dtype=ir.DataType.FLOAT)
    spread = new.op("Unsqueeze", [factors, column], "scale", dtype=ir.DataType.FLOAT)
    shape = [*outer, blocks, found.block]
    y = new.op("Mul", [centred, spread], "blocks", dtype=ir.DataType.FLOAT, shape=shape)
    packed = node.inputs[0]
    assert packed is not None
    assert packed.shape is not None
    if len(packed.shape) == 2:  # its results are rows, not blocks
        flat = new.constant([*[0] * len(outer), blocks * found.block], np.int64, "shape")
        y = new.op("Reshape", [y, flat], "rows", like=old)
    return Edit(
        f"rows of {found.bits} bits, taken apart",
        remove=[node],
        insert=new.nodes,
        initializers=new.initializers,
        replace={old: y},
    )


def _within(new: Nodes, ids: ir.Value, rows: int) -> tuple[ir.Value, ir.Value]:
    """`ids` brought into range, and 1.0 for those that were: others' rows are zeros, as the kernel's are."""
    kind = np.int64 if ids.dtype == ir.DataType.INT64 else np.int32
    first, last = new.constant(kind(-rows), kind, "first_row"), new.constant(kind(rows - 1), kind, "last_row")
    within = new.op("Clip", [ids, first, last], "within", like=ids)
    same = new.op("Equal", [within, ids], "is_row", like=ids, dtype=ir.DataType.BOOL)
    return within, new.op("Cast", [same], "has_row", like=ids, dtype=ir.DataType.FLOAT, to=ir.DataType.FLOAT)


def _apart(new: Nodes, taken: ir.Value, bits: int, shape: list[int], label: str) -> ir.Value:
    """The integers in the bytes `taken`, the first in the lowest bits, as float32 of `shape`, 0: as it is."""
    if bits < _BYTE:
        mask = new.constant(np.uint8((1 << bits) - 1), np.uint8, f"{label}_mask")
        shift = new.constant(np.uint8(bits), np.uint8, f"{label}_bits")
        last = new.constant([-1], np.int64, f"{label}_axis")
        low = new.op("BitwiseAnd", [taken, mask], f"{label}_low", dtype=ir.DataType.UINT8)
        high = new.op("BitShift", [taken, shift], f"{label}_high", dtype=ir.DataType.UINT8, direction="RIGHT")
        pair = [
            new.op("Unsqueeze", [part, last], f"{label}_{name}_each", dtype=ir.DataType.UINT8)
            for name, part in (("low", low), ("high", high))
        ]
        taken = new.op("Concat", pair, f"{label}_pairs", dtype=ir.DataType.UINT8, axis=-1)
    wanted = new.constant(shape, np.int64, f"{label}_shape")
    grouped = new.op("Reshape", [taken, wanted], f"{label}_grouped", dtype=ir.DataType.UINT8)
    return new.op("Cast", [grouped], label, dtype=ir.DataType.FLOAT, to=ir.DataType.FLOAT)
