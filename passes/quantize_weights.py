"""quantize-weights: constant matrices in blocks of 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from graphopt.ir import (
    ConstantMatrix,
    Expr,
    LazyTensor,
    blocks_of,
    constant_matrix,
    constant_table,
    initializer,
    name_matches,
)
from graphopt.pipeline import Context, Contract, Edits, Level, NearMiss, Pass
from graphopt.targets import BlockProduct, Target

from ._block_nodes import BlockWeight, gathered, multiplied
from ._nbits import NotFinite, packed_rows
from ._rates import BLOCKS, chosen_block

_SMALLEST_BLOCK = 16  # the least block_size that MatMulNBits takes (onnxruntime's ContribOperators.md)
_USUAL = 128  # loses little and is read fast: docs/decisions/block-size.md
_LARGE = 1 << 22  # entries: smaller weights stay in the processor's cache, and cost little


class QuantizeWeights(Pass):
    """MatMul by a constant becomes MatMulNBits, its weight rounded to nearest in blocks with a scale each.

    Before: MatMul(x, W), MatMul(x, Transpose(W)) or Gemm(x, W, b); Gather(W, ids) of such a weight
    After:  MatMulNBits(x, packed, scales); Gather as GatherBlockQuantized of the same packed bytes
    Blocks run along the reduced axis. Weights are read and packed a few rows at a time and spilled to disk.
    At accuracy level 4 the kernel also rounds x to 8 bits, a block at a time: damage counts both. Products of
    float16 are computed in float32 between two Casts, as the runtime computes them anyway.
    Refuses: weights that are not constant, not matrices of float32 or float16, quantized already, without
    data or not finite; those that came in blocks; small ones; names that `exclude` matches or `include` does
    not; Gemm with factors or a transposed x.
    """

    name: ClassVar[str] = "quantize-weights"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 12.0)
    _AT_8_BITS: ClassVar[Contract] = Contract.lossy("sqnr", 30.0)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """bits a weight; block_size along the reduced axis, made smaller for narrower weights; auto takes 128
        or, for a large weight where 256 is faster by a twentieth on the target, 256: for one token written
        and one read, which the target measures or knows, and recorded as a decision;
        accuracy_level 4 computes in int8, 0 to 3 in float32, which is slower: with 8 bits one row takes over
        a hundred times as long; search tries several scales for each block of 4-bit weights; include and
        exclude are globs over weight names, separated by commas; smallest: entries below which a weight stays
        as it is; embedding: one that is tied shares the head's packed weight (tied), or every one is packed
        (all), or none (keep); requantize: also weights that the source holds in blocks, which loses twice.
        """

        bits: Literal[4, 8] = 4
        block_size: Literal[16, 32, 64, 128, 256, "auto"] = 128
        accuracy_level: Literal[0, 1, 2, 3, 4] = 4
        search: bool = True
        include: str = "*"
        exclude: str = ""
        smallest: int = 4096
        embedding: Literal["tied", "all", "keep"] = "tied"
        requantize: bool = False

    def effective_contract(self) -> Contract:
        return self._AT_8_BITS if self.options.bits == 8 else self.contract

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        made: dict[Hashable, BlockWeight] = {}
        for node in graph:
            found = constant_matrix(node, (ir.DataType.FLOAT, ir.DataType.FLOAT16))
            if found is None:
                continue
            reason = found if isinstance(found, str) else self._unwanted(found.name, found.rows)
            if reason is None:
                assert isinstance(found, ConstantMatrix)
                try:
                    quantized = self._quantized(found.name, found.rows, made, context)
                    yield multiplied(node, found, quantized, self.options.accuracy_level)
                    continue
                except NotFinite:
                    reason = f"weight {found.name} has entries that are not finite"
            yield NearMiss(node.name or node.op_type, reason)
        if self.options.embedding != "keep":
            yield from self._embeddings(graph, made, context)

    def _embeddings(self, graph: ir.Graph, made: dict[Hashable, BlockWeight], context: Context) -> Edits:
        for node in graph:
            found = constant_table(node)
            if found is None:
                continue
            name, rows = found
            where = node.name or node.op_type
            reason = self._unwanted(name, rows)
            if self.options.embedding == "tied" and rows.identity not in made:
                reason = "no product uses the same weight"
            if node.inputs[1] is None or node.inputs[1].shape is None:
                reason = "the rank of its indices is unknown"
            if reason is not None:
                yield NearMiss(where, reason)
            elif rows.shape[1] % self._block(rows, context):
                yield NearMiss(where, f"rows of {rows.shape[1]} are not a multiple of the block size")
            else:
                yield gathered(node, self._quantized(name, rows, made, context))

    def _unwanted(self, name: str, rows: Expr) -> str | None:
        if not name_matches(name, self.options.include) or name_matches(name, self.options.exclude):
            return f"weight {name} is left out by name"
        if rows.shape[0] * rows.shape[1] < self.options.smallest:
            return f"weight {name} has fewer than {self.options.smallest} entries"
        if not self.options.requantize and blocks_of(rows) is not None:
            return f"weight {name} came in blocks, and rounding it again has to be asked for (requantize)"
        return None

    def _block(self, rows: Expr, context: Context) -> int:
        count, width = rows.shape
        block: int = _USUAL
        if self.options.block_size != "auto":
            block = self.options.block_size
        elif count * width >= _LARGE and width % max(BLOCKS) == 0 and context.target is not None:
            block = self._fastest(context, context.target, count, width)
        while block > width and block > _SMALLEST_BLOCK:
            block //= 2
        return block

    def _fastest(self, context: Context, target: Target, count: int, width: int) -> int:
        """The block that text is read and written fastest with, by these weights [count, width]."""
        bits, level = self.options.bits, self.options.accuracy_level
        key = f"{self.name}: seconds of {width} x {count}, {bits} bits, by block size"
        product = BlockProduct(bits=bits, k=width, n=count, level=level)
        seconds = context.decisions.get(key) or target.product_seconds(product, BLOCKS)
        if seconds is None:
            return _USUAL
        return chosen_block(context.decide(key, lambda: {str(block): s for block, s in seconds.items()}))

    def _quantized(
        self, name: str, rows: Expr, made: dict[Hashable, BlockWeight], context: Context
    ) -> BlockWeight:
        """The packed form of `rows`, made once."""
        if rows.identity in made:
            return made[rows.identity]
        bits, block = self.options.bits, self._block(rows, context)
        packed, factors = packed_rows(rows, bits, block, context, search=self.options.search)
        scale: ir.TensorProtocol = ir.tensor(factors)
        if context.scratch is not None:
            scale = LazyTensor(context.scratch.write([factors], ir.DataType.FLOAT, factors.shape))
        made[rows.identity] = BlockWeight(
            initializer(f"{name}/q{bits}", LazyTensor(packed)),
            initializer(f"{name}/scales", scale),
            None,
            bits,
            block,
            rows.shape[1],
        )
        return made[rows.identity]
