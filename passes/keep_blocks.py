"""keep-blocks: weights that the source holds in blocks of small integers stay in them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from graphopt.ir import (
    MICROSOFT,
    Blocks,
    ConstantMatrix,
    Expr,
    LazyTensor,
    constant_matrix,
    constant_table,
    initializer,
    ordered_blocks_of,
)
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass

from ._block_nodes import BLOCK_SIZES, BlockWeight, gathered, level_on, multiplied
from ._kept_experts import kept_experts


class KeepBlocks(Pass):
    """A product with a weight that came quantized uses the integers, scales and zero points it came with.

    Before: MatMul(x, W), MatMul(x, Transpose(W)) or Gemm(x, W, b); Gather(W, ids), where W [N, K] float32
            is (integer - zero) * scale of what the source holds (`graphopt.ir.Blocks`), in blocks along K
            MoE, of whose experts both weights are
    After:  MatMulNBits(x, packed, scales, zeros); GatherBlockQuantized of the same bytes; QMoE
    Nothing is rounded again: rows that were joined or moved since are joined and moved in what is packed.
    Where the blocks' columns are in another order than W's (GPTQ's desc_act), a Gather puts x in theirs.
    At accuracy level 4, though, the kernel rounds x, a block at a time.
    Refuses: weights that were multiplied or of which columns moved since; rows of several forms; blocks other
    than of 16 to 256; a lookup of rows that end within a block, or are in another order; experts in two
    forms, with rows that end within a block or columns in another order; what QMoE does not have.
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
        weights: dict[Hashable, BlockWeight] = {}
        level = level_on(context.target, self.options.accuracy_level)
        for node in graph:
            if node.op_type == "MoE" and node.domain == MICROSOFT:
                made = kept_experts(node, level)
                if made is not None:
                    yield made if isinstance(made, Edit) else NearMiss(node.name or "MoE", made)
                continue
            product = constant_matrix(node)
            if isinstance(product, ConstantMatrix):
                name, rows = product.name, product.rows
            elif (table := constant_table(node)) is not None:
                name, rows = table
            else:
                continue
            found = ordered_blocks_of(rows)
            if found is None:
                continue
            if isinstance(found, str):
                yield NearMiss(node.name or node.op_type, f"weight {name} came in blocks and is {found}")
                continue
            blocks, order = found
            if rows.identity not in weights:
                weights[rows.identity] = _weight(name, blocks)
            weight = weights[rows.identity]
            if blocks.block not in BLOCK_SIZES:
                edit: Edit | str = f"weight {name} is in blocks of {blocks.block}, and kernels take 16 to 256"
            elif isinstance(product, ConstantMatrix):
                edit = multiplied(node, product, weight, level, order)
            else:
                edit = _looked_up(node, weight, order)
            yield edit if isinstance(edit, Edit) else NearMiss(node.name or node.op_type, edit)


def _looked_up(node: ir.Node, weight: BlockWeight, order: Expr | None) -> Edit | str:
    ids = node.inputs[1]
    if order is not None:
        return "its columns are in another order than its blocks"
    if ids is None or ids.shape is None:
        return "the rank of its indices is unknown"
    if weight.width % weight.block:
        return f"rows of {weight.width} are not a multiple of their blocks of {weight.block}"
    return gathered(node, weight)


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
