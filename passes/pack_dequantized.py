"""pack-dequantized: weights that would be dequantized in every call are multiplied by as integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import (
    Blocks,
    ConstantMatrix,
    InMemory,
    LazyTensor,
    const_of,
    has_data,
    initializer,
    is_output,
    lazy,
    producer,
)
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._block_nodes import BLOCK_SIZES, BlockWeight, multiplied
from ._nbits import pack_levels

_BITS = {ir.DataType.INT8: 8, ir.DataType.UINT8: 8, ir.DataType.INT4: 4, ir.DataType.UINT4: 4}
_SIGNED = (ir.DataType.INT8, ir.DataType.INT4)
_ONE_SCALE = 128
"""The block of rows that have one scale: longer ones are hardly faster (docs/decisions/block-size.md)."""


class PackDequantized(Pass):
    """A product with a weight that is dequantized and turned in every call uses the integers.

    Before: MatMul(x, Transpose(DequantizeLinear(W))) or Gemm(x, DequantizeLinear(W), b), transB = 1; W a
            constant of 4 or 8 bits with a scale for the whole, for each output, or for each block along a row
    After:  MatMulNBits(x, packed, scales, zeros), of the same integers; where x is dequantized, too,
            MatMul(x, DequantizeLinear(W turned)), which runtimes fuse into a product of integers
    At accuracy level 4 the kernel rounds x to int8, a block at a time. onnxruntime (1.32) does that by itself
    in MatMul(x, DequantizeLinear(W)); with a Transpose between for 8 bits, and for 4 with zero points, but
    not for blocks, nor for what several products read; and never for a Gemm with transB.
    Refuses: what onnxruntime does by itself; scales and zero points that are no constants; blocks along the
    other axis, or of a size that no kernel takes; a Gemm with factors or a transposed x, or of what is
    dequantized; an x that is not float32.
    """

    name: ClassVar[str] = "pack-dequantized"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 30.0)
    _IN_FLOAT: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)

    @dataclass(frozen=True)
    class Options:
        """accuracy_level 4 computes in int8, which rounds x; 0 to 3 in float32, which is slower."""

        accuracy_level: Literal[0, 1, 2, 3, 4] = 4

    def effective_contract(self) -> Contract:
        return self.contract if self.options.accuracy_level == 4 else self._IN_FLOAT

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            found = _product(node)
            if found is None:
                continue
            edit = found if isinstance(found, str) else self._edit(node, found)
            yield edit if isinstance(edit, Edit) else NearMiss(node.name or node.op_type, edit)

    def _edit(self, node: ir.Node, found: _Product) -> Edit | str:
        if found.is_turned_at_load:
            return "onnxruntime turns its integers itself"
        if producer(found.x, "DequantizeLinear") is not None:
            if found.turn is None:
                return "what it multiplies is dequantized, and a runtime fuses all of it"
            return _turned_integers(node, found, self._IN_FLOAT)
        if found.x.dtype != ir.DataType.FLOAT:
            return "what it multiplies is not float32"
        form = _form(found.widened)
        if isinstance(form, str):
            return form
        packed = pack_levels(form.levels, form.scales, form.bits, form.zeros)
        weight = found.widened.inputs[0]
        name = (weight.name if weight is not None else None) or "weight"

        def held(array: NDArray[Any], ending: str) -> ir.Value:
            return initializer(f"{name}/{ending}", LazyTensor(InMemory(array)))

        made = BlockWeight(
            held(packed.weight, f"q{form.bits}"),
            held(packed.scales, "scales"),
            None if packed.zeros is None else held(packed.zeros, "zeros"),
            form.bits,
            form.block,
            form.width,
        )
        rows = Blocks(
            InMemory(packed.weight),
            InMemory(packed.scales),
            None if packed.zeros is None else InMemory(packed.zeros),
            form.bits,
            form.block,
            form.width,
        )
        matrix = ConstantMatrix(found.x, rows, name, found.bias, found.removed)
        return multiplied(node, matrix, made, self.options.accuracy_level)


@dataclass(frozen=True)
class _Product:
    """x times the transpose of what `widened` gives, [N, K]; `turn` is the Transpose, if it is a node."""

    x: ir.Value
    widened: ir.Node
    turn: ir.Node | None
    bias: ir.Value | None
    removed: tuple[ir.Node, ...]

    @property
    def is_turned_at_load(self) -> bool:
        """Whether onnxruntime takes the Transpose to the integers: see the pass."""
        if self.turn is None or self.turn not in self.removed or self.widened not in self.removed:
            return False
        held, zero = self.widened.inputs[0], (*self.widened.inputs, None)[2]
        is_wide = held is not None and _BITS.get(held.dtype or ir.DataType.UNDEFINED) == 8
        return not self.widened.attributes.get_int("block_size", 0) and (is_wide or zero is not None)


@dataclass(frozen=True)
class _Form:
    """Levels uint8 [block, N * blocks], scales [N, blocks], and zero points where they are not the middle."""

    levels: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8] | None
    bits: int
    block: int
    width: int


def _product(node: ir.Node) -> _Product | str | None:
    """None where `node` is no product of a constant that is dequantized and turned."""
    if node.domain or node.op_type not in ("MatMul", "Gemm") or node.inputs[0] is None:
        return None
    turn, bias = None, None
    value = node.inputs[1]
    if node.op_type == "MatMul":
        turn = producer(value, "Transpose")
        if turn is None or list(turn.attributes.get_ints("perm") or (1, 0)) != [1, 0]:
            return None
        value = turn.inputs[0]
    elif node.attributes.get_int("transB", 0) == 0:
        return None
    widened = producer(value, "DequantizeLinear")
    if widened is None or _constant(widened.inputs[0]) is None:
        return None
    if node.op_type == "Gemm":
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        factors = {node.attributes.get_float("alpha", 1.0)}
        factors |= {node.attributes.get_float("beta", 1.0)} if bias is not None else set()
        if factors != {1.0} or node.attributes.get_int("transA", 0) != 0:
            return "it is a Gemm with a factor or a transposed first operand"
    removed = [node]
    for before in (turn, widened):
        if before is not None and len(before.outputs[0].uses()) == 1 and not is_output(before.outputs[0]):
            removed.append(before)
        elif before is not None:
            break
    return _Product(node.inputs[0], widened, turn, bias, tuple(removed))


def _constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    if value is None or value.is_graph_input() or value.const_value is None:
        return None
    return value.const_value if has_data(value.const_value) else None


def _form(widened: ir.Node) -> _Form | str:
    """What the constant of a DequantizeLinear, [N, K], is as a weight in blocks."""
    weight, scale = _constant(widened.inputs[0]), _constant(widened.inputs[1])
    zero = widened.inputs[2] if len(widened.inputs) > 2 else None
    if weight is None or scale is None or (zero is not None and _constant(zero) is None):
        return "its scales or zero points are no constants"
    bits = _BITS.get(weight.dtype)
    if bits is None or len(weight.shape) != 2 or scale.dtype != ir.DataType.FLOAT:
        return f"its weight is no matrix of 4 or 8 bits with scales of float32, but of {weight.dtype}"
    count, width = weight.shape.numpy()
    scales = lazy(scale).read().astype(np.float32)
    along = widened.attributes.get_int("axis", 1) % 2
    block = widened.attributes.get_int("block_size", 0)
    if block:
        if along != 1:
            return "its blocks are not along its rows"
    elif scales.size > 1 and along != 0:
        return "its scales are not one for each row"
    else:
        block = _ONE_SCALE
        scales = np.broadcast_to(scales.reshape(-1, 1), (count, -(-width // block)))
    if block not in BLOCK_SIZES:
        return f"its blocks are of {block}, and kernels take 16 to 256"
    middle = 1 << (bits - 1) if weight.dtype in _SIGNED else 0
    zeros = np.full(scales.shape, middle, np.int16)
    if zero is not None:
        held = _constant(zero)
        assert held is not None
        array = lazy(held).read().astype(np.int16)
        zeros = zeros + (array if array.shape == scales.shape else array.reshape(-1, 1))
    levels = lazy(weight).read().astype(np.int16) + middle
    missing = scales.shape[1] * block - width
    padded = np.pad(levels, ((0, 0), (0, missing))).astype(np.uint8).reshape(-1, block)
    usual = bool((zeros == 1 << (bits - 1)).all())
    return _Form(
        np.ascontiguousarray(padded.T),
        np.ascontiguousarray(scales),
        None if usual else zeros.astype(np.uint8),
        bits,
        block,
        width,
    )


def _turned_integers(node: ir.Node, found: _Product, contract: Contract) -> Edit | str:
    """MatMul(x, DequantizeLinear(W turned)): the Transpose done once, on what is stored."""
    widened, old = found.widened, node.outputs[0]
    held, scale = _constant(widened.inputs[0]), widened.inputs[1]
    if held is None or scale is None or len(held.shape) != 2 or held.dtype not in _BITS:
        return "its weight is no matrix of 4 or 8 bits"
    make, name = Nodes(node.name or "MatMul"), widened.inputs[0].name  # type: ignore[union-attr]
    attributes: dict[str, Any] = dict(widened.attributes)
    inputs = list(widened.inputs)
    turned = lazy(held).read().T
    inputs[0] = make.weight(ir.tensor(np.ascontiguousarray(turned), held.dtype), f"{name}~turned")
    if attributes.get("block_size") and attributes["block_size"].as_int():
        for place in range(1, len(inputs)):
            array = const_of(inputs[place])
            if array is None:
                return "its scales or zero points are no constants"
            inputs[place] = make.weight(ir.tensor(array.T.copy()), f"{name}~turned/{place}")
    attributes["axis"] = 1 - widened.attributes.get_int("axis", 1) % 2
    shape = list(turned.shape)
    w = make.op("DequantizeLinear", inputs, "turned", dtype=ir.DataType.FLOAT, shape=shape, **attributes)
    y = make.op("MatMul", [found.x, w], "product", like=old)
    return Edit(
        f"a weight of {_BITS[held.dtype]} bits turned as it is stored",
        remove=found.removed,
        insert=make.nodes,
        initializers=make.initializers,
        replace={old: y},
        before=node,
        contract=contract,
    )
