"""keep-blocks: weights that the source holds in blocks of small integers stay in them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from graphopt.ir import (
    Blocks,
    ConstantMatrix,
    Expr,
    LazyTensor,
    blocks_of,
    constant_matrix,
    constant_table,
    initializer,
)
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass

from ._block_nodes import BlockWeight, gathered, multiplied

_SIZES = (16, 32, 64, 128, 256)  # the blocks that MatMulNBits takes (onnxruntime's ContribOperators.md)


class KeepBlocks(Pass):
    """A product with a weight that came quantized uses the integers, scales and zero points it came with.

    Before: MatMul(x, W), MatMul(x, Transpose(W)) or Gemm(x, W, b); Gather(W, ids), where W [N, K] float32
            is (integer - zero) * scale of what the source holds (`graphopt.ir.Blocks`), in blocks along K
    After:  MatMulNBits(x, packed, scales, zeros); GatherBlockQuantized of the same bytes
    Nothing is rounded again: rows that were joined or moved since are joined and moved in what is packed.
    At accuracy level 4, though, the kernel rounds x to 8 bits, a block at a time.
    Refuses: weights of which columns moved, or which were multiplied, since; rows of several forms; blocks
    other than of 16 to 256; a lookup of rows that end within a block.
    """

    name: ClassVar[str] = "keep-blocks"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 30.0)
    _IN_FLOAT: ClassVar[Contract] = Contract.reassociates()
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """accuracy_level 4 computes in int8, which rounds x; 0 to 3 in float32, which is slower: with 8 bits
        one row takes over sixty times as long.
        """

        accuracy_level: Literal[0, 1, 2, 3, 4] = 4

    def effective_contract(self) -> Contract:
        return self.contract if self.options.accuracy_level == 4 else self._IN_FLOAT

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        made: dict[Hashable, BlockWeight] = {}
        for node in graph:
            product = constant_matrix(node)
            if isinstance(product, ConstantMatrix):
                name, rows = product.name, product.rows
            elif (table := constant_table(node)) is not None:
                name, rows = table
            else:
                continue
            blocks = blocks_of(rows)
            if blocks is None:
                continue
            reason = _unfit(name, blocks)
            if reason is None:
                assert isinstance(blocks, Blocks)
                weight = made.setdefault(rows.identity, _weight(name, blocks))
                edit = self._edit(node, product, weight)
                if isinstance(edit, Edit):
                    yield edit
                    continue
                reason = edit
            yield NearMiss(node.name or node.op_type, reason)

    def _edit(self, node: ir.Node, product: ConstantMatrix | str | None, weight: BlockWeight) -> Edit | str:
        if isinstance(product, ConstantMatrix):
            return multiplied(node, product, weight, self.options.accuracy_level)
        ids = node.inputs[1]
        if ids is None or ids.shape is None:
            return "the rank of its indices is unknown"
        if weight.width % weight.block:
            return f"rows of {weight.width} are not a multiple of their blocks of {weight.block}"
        return gathered(node, weight)


def _unfit(name: str, blocks: Blocks | str) -> str | None:
    if isinstance(blocks, str):
        return f"weight {name} came in blocks and is {blocks}"
    if blocks.block not in _SIZES:
        return f"weight {name} is in blocks of {blocks.block}, and kernels take {_SIZES[0]} to {_SIZES[-1]}"
    return None


def _weight(name: str, blocks: Blocks) -> BlockWeight:
    def held(expr: Expr, ending: str) -> ir.Value:
        return initializer(f"{name}/{ending}", LazyTensor(expr))

    return BlockWeight(
        held(blocks.packed, f"q{blocks.bits}"),
        held(blocks.scales, "scales"),
        None if blocks.zeros is None else held(blocks.zeros, "zeros"),
        blocks.bits,
        blocks.block,
        blocks.width,
    )
