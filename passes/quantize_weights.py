"""quantize-weights: constant matrices in blocks of 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from graphopt.ir import Expr, LazyTensor, Transposed, has_data, lazy, producer, simplified
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass

from ._nbits import quantized_tiles

_MICROSOFT = "com.microsoft"
_SMALLEST_BLOCK = 16


class QuantizeWeights(Pass):
    """MatMul by a constant becomes MatMulNBits, its weight rounded to nearest in blocks with a scale each.

    Before: MatMul(x, W), MatMul(x, Transpose(W)) or Gemm(x, W, b); Gather(W, ids) of such a weight
    After:  MatMulNBits(x, packed, scales); Gather as GatherBlockQuantized of the same packed bytes
    Blocks run along the reduced axis. Weights are read and packed a few rows at a time and spilled to disk.
    At accuracy level 4 the kernel also rounds x to 8 bits, a block at a time: damage counts both.
    Refuses: weights without data or not of two axes; names that `exclude` matches or `include` does not;
    Gemm with factors or a transposed x.
    """

    name: ClassVar[str] = "quantize-weights"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("kl", 0.5)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """bits a weight; block_size along the reduced axis, made smaller for narrower weights;
        accuracy_level 4 computes in int8, 0 in float32; search tries shrunken scales; include and exclude are
        globs over weight names; embedding: a tied one shares the head's packed weight, or is kept as it is.
        """

        bits: Literal[4, 8] = 4
        block_size: Literal[16, 32, 64, 128, 256] = 128
        accuracy_level: Literal[0, 1, 2, 3, 4] = 4
        search: bool = True
        include: str = "*"
        exclude: str = ""
        embedding: Literal["tied", "keep"] = "tied"

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        made: dict[Hashable, _Quantized] = {}
        for node in graph:
            found = _matrix(node)
            if found is None:
                continue
            if isinstance(found, str):
                yield NearMiss(node.name or node.op_type, found)
                continue
            if not self._chosen(found.name):
                yield NearMiss(node.name or node.op_type, f"weight {found.name} is left out by name")
                continue
            key = found.rows.identity
            if key not in made:
                made[key] = self._quantized(found, context)
            yield _multiplied(node, found, made[key], self.options.accuracy_level)
        if self.options.embedding == "tied":
            for node in graph:
                edit = _gathered(node, made)
                if edit is not None:
                    yield edit

    def _chosen(self, name: str) -> bool:
        return fnmatch(name, self.options.include) and not fnmatch(name, self.options.exclude)

    def _quantized(self, found: _Matrix, context: Context) -> _Quantized:
        """Quantize the weight; the result goes to the scratch file if there is one."""
        bits, (count, width) = self.options.bits, found.rows.shape
        block = self.options.block_size
        while block > width and block > _SMALLEST_BLOCK:
            block //= 2
        blocks = -(-width // block)
        scales: list[np.ndarray] = []

        def packed() -> Iterator[np.ndarray]:
            for tile in quantized_tiles(found.rows, bits, block, search=self.options.search and bits < 8):
                scales.append(tile.scales)
                yield tile.weight

        shape = (count, blocks, block * bits // 8)
        weight: ir.TensorProtocol
        if context.scratch is not None:
            weight = LazyTensor(context.scratch.write(packed(), ir.DataType.UINT8, shape))
            scale: ir.TensorProtocol = LazyTensor(
                context.scratch.write(scales, ir.DataType.FLOAT, (count, blocks))
            )
        else:
            weight = ir.tensor(np.concatenate(list(packed())))
            scale = ir.tensor(np.concatenate(scales))
        stem = found.name
        return _Quantized(
            _initializer(f"{stem}/q{bits}", weight),
            _initializer(f"{stem}/scales", scale),
            bits,
            block,
            (count, width),
        )


@dataclass(frozen=True)
class _Matrix:
    """A constant that x is multiplied by, as rows [N, K]; the node's own bias, and nodes that go with it."""

    x: ir.Value
    rows: Expr
    name: str
    bias: ir.Value | None
    extra: tuple[ir.Node, ...]


@dataclass(frozen=True)
class _Quantized:
    weight: ir.Value
    scales: ir.Value
    bits: int
    block: int
    shape: tuple[int, int]


def _initializer(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    shape = ir.Shape(tensor.shape.numpy())
    return ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)


def _matrix(node: ir.Node) -> _Matrix | str | None:
    if node.domain != "" or node.op_type not in ("MatMul", "Gemm") or node.inputs[0] is None:
        return None
    weight, transposed = node.inputs[1], False
    extra: tuple[ir.Node, ...] = ()
    turn = producer(weight, "Transpose")
    if turn is not None and list(turn.attributes.get_ints("perm") or (1, 0)) == [1, 0]:
        weight, transposed = turn.inputs[0], True
        extra = (turn,) if len(turn.outputs[0].uses()) == 1 else ()
    tensor = weight.const_value if weight is not None else None
    if weight is None or tensor is None or not weight.is_initializer() or weight.is_graph_input():
        return None
    if len(tensor.shape) != 2 or tensor.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return "its weight is not a float matrix"
    if not has_data(tensor):
        return "its weight has no data"
    bias = None
    if node.op_type == "Gemm":
        attributes = node.attributes
        if attributes.get_int("transA", 0) or attributes.get_float("alpha", 1.0) != 1.0:
            return "Gemm with a factor or a transposed operand"
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None and attributes.get_float("beta", 1.0) != 1.0:
            return "Gemm with a factor or a transposed operand"
        transposed ^= bool(attributes.get_int("transB", 0))
    expr = lazy(tensor)
    rows = simplified(expr if transposed else Transposed(expr, (1, 0)))
    return _Matrix(node.inputs[0], rows, weight.name or "weight", bias, extra)


def _multiplied(node: ir.Node, found: _Matrix, made: _Quantized, accuracy_level: int) -> Edit:
    tape = ir.tape.Tape()
    count, width = made.shape
    attributes = {
        "K": width,
        "N": count,
        "bits": made.bits,
        "block_size": made.block,
        "accuracy_level": accuracy_level,
    }
    y = tape.op(
        "MatMulNBits",
        [found.x, made.weight, made.scales],
        attributes,
        domain=_MICROSOFT,
        name=f"{node.name}/nbits",
    )
    y.type, y.shape = node.outputs[0].type, node.outputs[0].shape
    if found.bias is not None:
        y = tape.op("Add", [y, found.bias], name=f"{node.name}/bias")
    fresh = [v for v in (made.weight, made.scales) if v.graph is None]
    return Edit(
        f"{made.bits}-bit weight in blocks of {made.block}",
        remove=[node, *found.extra],
        insert=tape.nodes,
        initializers=fresh,
        replace={node.outputs[0]: y},
        before=node,
    )


def _gathered(node: ir.Node, made: dict[Hashable, _Quantized]) -> Edit | None:
    """Gather from a weight that was quantized for a product, from its packed bytes instead."""
    if node.domain != "" or node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0:
        return None
    weight, ids = node.inputs
    if weight is None or ids is None or weight.const_value is None or not weight.is_initializer():
        return None
    if len(weight.const_value.shape) != 2 or not has_data(weight.const_value):
        return None
    found = made.get(simplified(lazy(weight.const_value)).identity)
    if found is None or found.weight.graph is None or found.shape[1] % found.block:
        return None
    tape = ir.tape.Tape()
    axis = tape.initializer(ir.tensor(np.asarray([2], np.int64)), f"{node.name}/axis")
    scales = tape.op("Unsqueeze", [found.scales, axis], name=f"{node.name}/scales")
    attributes = {"gather_axis": 0, "quantize_axis": 2, "block_size": found.block, "bits": found.bits}
    blocks = tape.op(
        "GatherBlockQuantized",
        [found.weight, ids, scales],
        attributes,
        domain=_MICROSOFT,
        name=f"{node.name}/nbits",
    )
    rank = len(ids.shape) if ids.shape is not None else 2
    shape = tape.initializer(
        ir.tensor(np.asarray([0] * rank + [found.shape[1]], np.int64)), f"{node.name}/shape"
    )
    y = tape.op("Reshape", [blocks, shape], name=f"{node.name}/rows")
    return Edit(
        "embedding from the head's packed weight",
        remove=[node],
        insert=tape.nodes,
        initializers=tape.initializers,
        replace={node.outputs[0]: y},
    )
