"""round-zeros: zero points in floats become integers, and what they lose a small product."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import MICROSOFT, has_data, lazy
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, Pass

from ._nbits import pack_zeros

_ZEROS, _G_IDX = 3, 4  # inputs of MatMulNBits


class RoundZeros(Pass):
    """MatMulNBits with zero points in floats, as HQQ writes them, gets packed ones.

    Before: MatMulNBits(x, q, s, z), z float32 or float16: x (q - z) s, for which onnxruntime's CPU provider
            has no fast kernel
    After:  MatMulNBits(x, q, s, round(z)) + sums(x) C, where sums(x) [.., blocks] are those of x over each
            block, and C [blocks, N] is (round(z) - z) s; without the sum where every z is an integer
    The same mathematics. Where accuracy_level is 4 the kernel rounds x to int8 now, which it did not before,
    whatever the attribute said.
    Refuses: zero points that are no constants, or beyond what the bits hold by more than a half; g_idx; an x
    of another type than float32; a width that is no multiple of the block.
    """

    name: ClassVar[str] = "round-zeros"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 30.0)
    _IN_FLOAT: ClassVar[Contract] = Contract.reassociates()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if (node.domain, node.op_type) != (MICROSOFT, "MatMulNBits") or len(node.inputs) <= _ZEROS:
                continue
            zeros = node.inputs[_ZEROS]
            if zeros is None or zeros.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
                continue
            found = self._rounded(node, zeros)
            yield found if isinstance(found, Edit) else NearMiss(node.name or node.op_type, found)

    def _rounded(self, node: ir.Node, zeros: ir.Value) -> Edit | str:
        x, scales = node.inputs[0], node.inputs[2]
        bits, block = node.attributes.get_int("bits", 4), node.attributes.get_int("block_size", 32)
        width, count = node.attributes["K"].as_int(), node.attributes["N"].as_int()
        if len(node.inputs) > _G_IDX and node.inputs[_G_IDX] is not None:
            return "its columns are in another order (g_idx)"
        if x is None or scales is None or scales.dtype != ir.DataType.FLOAT:
            return "what it multiplies is not float32"
        if width % block:
            return f"rows of {width} are not a multiple of their blocks of {block}"
        blocks = width // block
        z, s = _array(zeros), _array(scales)
        if z is None or s is None or z.size != count * blocks or s.size != z.size:
            return "its scales or zero points are no constants, or not one for each block"
        z, s = z.reshape(count, blocks), s.reshape(count, blocks)
        rounded = np.clip(np.rint(z), 0, (1 << bits) - 1)
        rest = (rounded - z) * s
        if np.abs(rounded - z).max() > 0.5:
            return f"zero points beyond what {bits} bits hold"
        make = Nodes(node.name or "MatMulNBits")
        packed = make.weight(ir.tensor(pack_zeros(rounded.astype(np.uint8), bits)), f"{zeros.name}/packed")
        inputs = [*node.inputs[:_ZEROS], packed, *node.inputs[_ZEROS + 1 :]]
        old = node.outputs[0]
        attributes: dict[str, Any] = dict(node.attributes)
        y = make.op("MatMulNBits", inputs, "rounded", like=old, domain=MICROSOFT, **attributes)
        if rest.any():
            y = make.op("Add", [y, _of_rest(make, x, rest.T, block, y)], "with_rest", like=old)
        is_rounding = node.attributes.get_int("accuracy_level", 0) == 4
        return Edit(
            f"{count * blocks} zero points of {bits} bits",
            remove=[node],
            insert=make.nodes,
            initializers=make.initializers,
            replace={old: y},
            contract=self.contract if is_rounding else self._IN_FLOAT,
        )


def _of_rest(make: Nodes, x: ir.Value, rest: NDArray[np.float32], block: int, y: ir.Value) -> ir.Value:
    """The sums of `x` over each block, times `rest` [blocks, N], of the shape of `y`."""
    rows = [-1] if x.shape is None else [0] * (len(x.shape) - 1)
    parts = make.constant([*rows, len(rest), block], np.int64, "parts")
    split = make.op("Reshape", [x, parts], "in_blocks", dtype=ir.DataType.FLOAT)
    axis = make.constant([-1], np.int64, "axis")
    sums = make.op("ReduceSum", [split, axis], "sums", dtype=ir.DataType.FLOAT, keepdims=0)
    shift = make.constant(np.ascontiguousarray(rest), np.float32, "rest")
    more = make.op("MatMul", [sums, shift], "of_rest", dtype=ir.DataType.FLOAT)
    if x.shape is not None:
        return more
    shape = make.op("Shape", [y], "shape", dtype=ir.DataType.INT64)
    return make.op("Reshape", [more, shape], "as_product", like=y)


def _array(value: ir.Value | None) -> NDArray[np.float32] | None:
    """A constant of floats, of any size."""
    tensor = None if value is None or value.is_graph_input() else value.const_value
    return lazy(tensor).read().astype(np.float32) if tensor is not None and has_data(tensor) else None
