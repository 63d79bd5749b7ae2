"""quantize-weights: constant matrices in blocks of 2, 4 or 8 bits."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import onnx_ir as ir
from numpy.typing import NDArray

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
from ._forms import Form
from ._learned import Learning, Unit, learn
from ._nbits import NotFinite, Packed, concatenated, kept, quantized_tiles
from ._rates import BLOCKS, chosen_block
from ._zeros import zero_points_pay

_USUAL = 128  # loses little and is read fast: docs/decisions/block-size.md
_CONTRACTS = {
    2: Contract.lossy("sqnr", 3.0),
    4: Contract.lossy("sqnr", 12.0),
    8: Contract.lossy("sqnr", 30.0),
}
_LARGE = 1 << 22  # entries: smaller weights stay in the processor's cache, and cost little


class QuantizeWeights(Pass):
    """MatMul by a constant becomes MatMulNBits, its weight rounded in blocks with a scale each.

    Before: MatMul(x, W), MatMul(x, Transpose(W)) or Gemm(x, W, b); Gather(W, ids) of such a weight
    After:  MatMulNBits(x, packed, scales, zero points); Gather as GatherBlockQuantized of the same bytes
    Blocks run along the reduced axis. Weights are read and packed a few rows at a time and spilled to disk.
    At accuracy level 4 the kernel also rounds x to 8 bits, a block at a time: damage counts both. Products of
    float16 are computed in float32 between two Casts, as the runtime computes them anyway. What plan-bits
    decided for a weight goes before the options.
    Refuses: weights that are not constant, not matrices of float32 or float16, quantized already, without
    data or not finite; those that came in blocks; small ones; names that `exclude` matches or `include` does
    not; Gemm with factors or a transposed x.
    """

    name: ClassVar[str] = "quantize-weights"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = _CONTRACTS[4]
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """bits a weight; block_size along the reduced axis, made smaller for narrower weights; auto takes 128
        or, for a large weight where 256 is faster by a twentieth on the target, 256: for one token written
        and one read, which the target measures or knows, and recorded as a decision;
        rounding: of each entry to the nearest level (nearest), or to what makes the model's outputs least off
        on the calibration data (learned: with PyTorch, all weights together, at most 64 million of them; else
        to the nearest, which is noted), in so many steps of two calls each;
        zero_points: each block has its own (always), or no weight's have (never), or those of a weight whose
        error falls by more than as many bits spent elsewhere would lower it (auto);
        accuracy_level 4 computes in int8, 0 to 3 in float32, which is slower: with 8 bits one row takes over
        a hundred times as long; search tries several scales for each block; include and
        exclude are globs over weight names, separated by commas; smallest: entries below which a weight stays
        as it is; embedding: one that is tied shares the head's packed weight (tied), or every one is packed
        (all), or none (keep); requantize: also weights that the source holds in blocks, which loses twice.
        """

        bits: Literal[2, 4, 8] = 4
        block_size: Literal[16, 32, 64, 128, 256, "auto"] = 128
        zero_points: Literal["never", "auto", "always"] = "never"
        rounding: Literal["nearest", "learned"] = "nearest"
        steps: int = 60
        accuracy_level: Literal[0, 1, 2, 3, 4] = 4
        search: bool = True
        include: str = "*"
        exclude: str = ""
        smallest: int = 4096
        embedding: Literal["tied", "all", "keep"] = "tied"
        requantize: bool = False

    def effective_contract(self) -> Contract:
        return _CONTRACTS[self.options.bits]

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        made = self._learned(graph, context) if self.options.rounding == "learned" else {}
        for node in graph:
            found = constant_matrix(node, (ir.DataType.FLOAT, ir.DataType.FLOAT16))
            if found is None:
                continue
            reason = found if isinstance(found, str) else self._unwanted(found.name, found.rows)
            if reason is None:
                assert isinstance(found, ConstantMatrix)
                try:
                    blocks = self._quantized(found.name, found.rows, made, context)
                    edit = multiplied(node, found, blocks, self.options.accuracy_level)
                    yield replace(edit, contract=_CONTRACTS[blocks.bits])
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
            elif rows.shape[1] % self._form(name, rows, context).block:
                yield NearMiss(where, f"rows of {rows.shape[1]} are not a multiple of the block size")
            else:
                blocks = self._quantized(name, rows, made, context)
                yield replace(gathered(node, blocks), contract=_CONTRACTS[blocks.bits])

    def _learned(self, graph: ir.Graph, context: Context) -> dict[Hashable, BlockWeight]:
        """Weights whose rounding is learned, by identity: none where that is not possible."""
        found = [(f.name, f.rows) for f in map(constant_matrix, graph) if isinstance(f, ConstantMatrix)]
        if self.options.embedding == "all":
            found += [table for table in map(constant_table, graph) if table is not None]
        units: dict[Hashable, Unit] = {}
        for name, rows in found:
            if rows.identity in units or self._unwanted(name, rows) is not None:
                continue
            form = self._form(name, rows, context)
            with contextlib.suppress(NotFinite):
                parts = list(quantized_tiles(rows, form, search=self.options.search))
                looked_up = self.options.embedding != "keep" and rows.shape[1] % form.block == 0
                units[rows.identity] = Unit(name, rows, form, concatenated(parts), gathered=looked_up)
        learning = Learning(self.options.steps, level=self.options.accuracy_level)
        made = learn(graph, list(units.values()), context, learning)
        return {
            key: _stored(
                unit.name,
                [made[unit.name]],
                unit.form,
                (len(unit.packed.scales), unit.rows.shape[1]),
                context,
            )
            for key, unit in units.items()
            if unit.name in made
        }

    def _unwanted(self, name: str, rows: Expr) -> str | None:
        if not name_matches(name, self.options.include) or name_matches(name, self.options.exclude):
            return f"weight {name} is left out by name"
        if rows.shape[0] * rows.shape[1] < self.options.smallest:
            return f"weight {name} has fewer than {self.options.smallest} entries"
        if not self.options.requantize and blocks_of(rows) is not None:
            return f"weight {name} came in blocks, and rounding it again has to be asked for (requantize)"
        return None

    def _form(self, name: str, rows: Expr, context: Context) -> Form:
        """How `rows` are packed: as planned, or else by the options."""
        count, width = rows.shape
        planned = context.decisions.get("plan-bits", {}).get(name)
        if planned is not None:
            return Form.parse(planned).fitting(width)
        zeros = self.options.zero_points
        form = Form(self.options.bits, self._block(context, count, width), zeros == "always").fitting(width)
        if zeros == "auto":
            key = f"{self.name}: zero points of {name} pay in {form}"
            return replace(form, zeros=context.decide(key, lambda: zero_points_pay(rows, form)))
        return form

    def _block(self, context: Context, count: int, width: int) -> int:
        block: int | str = self.options.block_size
        if block != "auto":
            return int(block)
        if count * width >= _LARGE and width % max(BLOCKS) == 0 and context.target is not None:
            return self._fastest(context, context.target, count, width)
        return _USUAL

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
        if rows.identity not in made:
            form = self._form(name, rows, context)
            count, width = rows.shape
            parts = quantized_tiles(rows, form, search=self.options.search)
            made[rows.identity] = _stored(name, parts, form, (count, width), context)
        return made[rows.identity]


def _stored(
    name: str, parts: Iterable[Packed], form: Form, shape: tuple[int, int], context: Context
) -> BlockWeight:
    """The weight `name` of `shape` [N, width] from the `parts` that its rows come in, stored by `context`."""
    weight, scales, zeros = kept(parts, form, shape, context)

    def value(array: NDArray[Any], part: str, dtype: ir.DataType) -> ir.Value:
        tensor: ir.TensorProtocol = ir.tensor(array)
        if context.scratch is not None:
            tensor = LazyTensor(context.scratch.write([array], dtype, array.shape))
        return initializer(f"{name}/{part}", tensor)

    return BlockWeight(
        initializer(f"{name}/q{form.bits}", LazyTensor(weight)),
        value(scales, "scales", ir.DataType.FLOAT),
        None if zeros is None else value(zeros, "zeros", ir.DataType.UINT8),
        form.bits,
        form.block,
        shape[1],
    )
