"""quantize-weights: constant matrices in blocks of 2, 4 or 8 bits."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import CalibrationData
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

from ._bias_correction import BiasCorrection
from ._block_nodes import CAME_IN_BLOCKS, BlockWeight, gathered, level_on, multiplied
from ._calibrated import Hessians
from ._forms import Form
from ._gptq import LEAST_DAMPING, rounded_tiles
from ._learned import Learning, Unit, learn, unlearnable
from ._nbits import NotFinite, Packed, concatenated, kept, quantized_tiles
from ._own_text import with_own_text
from ._rounding import OF_TABLES
from ._weight_forms import USUAL, WeightForms, dividing, is_measured

_CONTRACTS = {
    2: Contract.lossy("sqnr", 3.0),
    4: Contract.lossy("sqnr", 12.0),
    8: Contract.lossy("sqnr", 30.0),
}
_BEGINNING = 96
"""Calls that GPTQ is given where rounding is learned from there on: at most some 49,000 tokens."""
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


class QuantizeWeights(Pass):
    """MatMul by a constant becomes MatMulNBits, its weight rounded in blocks with a scale each.

    Before: MatMul(x, W), MatMul(x, Transpose(W)) or Gemm(x, W, b); Gather(W, ids) of such a weight
    After:  MatMulNBits(x, packed, scales, zero points); Gather as GatherBlockQuantized of the same bytes
    Blocks run along the reduced axis. Weights are read and packed a few rows at a time and spilled to disk.
    At accuracy level 4 the kernel also rounds x, a block at a time: damage counts both. x gets 8 bits or,
    beside weights of 8 where the kernel is ours, 16. Products of float16 are computed in float32 between two
    Casts, as the runtime computes them anyway. What plan-bits decided for a weight goes before the options.
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
        zero_points: each block has its own (always), or no weight's have (never), or those of a weight whose
        error falls by more than as many bits spent elsewhere would lower it (auto);
        rounding: of each entry by itself (nearest), or of a column after the other, so that what is left of
        one is made up for in the next (gptq, calibrated), with sweeps of coordinate descent afterwards, or
        from there on so that the model's outputs are least off (learned, calibrated: with PyTorch, all
        weights together, at most 64 million of them; gptq else, which is noted), in so many steps of one call
        each;
        own_text: tokens that a language model writes by itself to be calibrated on beside the text that is
        given, at most: fewer the larger it is, and none of more than 64 million weights;
        accuracy_level 4 computes in int8, 0 to 3 in float32, which is slower: with 8 bits one row takes over
        a hundred times as long; search tries several scales for each block; bias_correction:
        what a product is off by on average is taken from its bias (calibrated; behind LayerNormalization
        without); include and
        exclude are globs over weight names, separated by commas; smallest: entries below which a weight stays
        as it is; embedding: one that is tied shares the head's packed weight (tied), or every one is packed
        (all), those that no product shares in table_bits, or none (keep); requantize: also weights that the
        source holds in blocks, which loses twice.
        """

        bits: Literal[2, 4, 8] = 4
        block_size: Literal[16, 32, 64, 128, 256, "auto"] = 128
        zero_points: Literal["never", "auto", "always"] = "never"
        rounding: Literal["nearest", "gptq", "learned"] = "nearest"
        sweeps: int = 2
        steps: int = 480
        own_text: int = 0
        accuracy_level: Literal[0, 1, 2, 3, 4] = 4
        search: bool = True
        bias_correction: bool = False
        include: str = "*"
        exclude: str = ""
        smallest: int = 4096
        embedding: Literal["tied", "all", "keep"] = "tied"
        table_bits: Literal[2, 4, 8] = 8
        requantize: bool = False

    def effective_contract(self) -> Contract:
        return _CONTRACTS[self.options.bits]

    def form(self, name: str, k: int, n: int, *, looked_up: bool = False, experts: int = 1) -> str | None:
        options = self.options
        if (
            experts > 1
            or not name_matches(name, options.include)
            or name_matches(name, options.exclude)
            or k * n < options.smallest
            or (looked_up and options.embedding != "all")
        ):
            return None
        block = USUAL if options.block_size == "auto" else options.block_size
        form = Form(options.bits, block, options.zero_points == "always")
        if looked_up:
            form = replace(form, bits=options.table_bits, block=dividing(form.block, k))
            return None if k % form.block else str(form)
        return str(form.fitting(k))

    def unmeasured(self, k: int, n: int) -> Mapping[str, Any]:
        is_open = self.options.block_size == "auto" and is_measured(k, n)
        return {"block_size": USUAL} if is_open else {}

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        packing = _Packing(self.options, graph, context, self.name)
        if self.options.rounding != "nearest":
            packing.calibrate([w for w in self._weights(graph) if self._unwanted(w[0], w[1]) is None])
        correction = BiasCorrection(context, self.name) if self.options.bias_correction else None
        products = [node for node in graph if constant_matrix(node, _FLOATS) is not None]
        for node in context.watch(products, "rounding weight"):
            found = constant_matrix(node, _FLOATS)
            reason = found if isinstance(found, str) else None
            if isinstance(found, ConstantMatrix):
                reason = self._unwanted(found.name, found.rows)
                if reason is None:
                    try:
                        blocks = packing.of(found.name, found.rows, found.x)
                        shift = None if correction is None else correction.of(node, found, blocks)
                        edit = multiplied(node, found, blocks, packing.level, shift=shift)
                        yield replace(edit, contract=_CONTRACTS[blocks.bits])
                        continue
                    except NotFinite:
                        reason = f"weight {found.name} has entries that are not finite"
            yield NearMiss(node.name or node.op_type, reason or "")
        if self.options.embedding != "keep":
            yield from self._embeddings(graph, packing)

    def _embeddings(self, graph: ir.Graph, packing: _Packing) -> Edits:
        for node in graph:
            found = constant_table(node)
            if found is None:
                continue
            name, rows = found
            reason = self._unwanted(name, rows)
            if self.options.embedding == "tied" and rows.identity not in packing.made:
                reason = "no product uses the same weight"
            if node.inputs[1] is None or node.inputs[1].shape is None:
                reason = "the rank of its indices is unknown"
            blocks = None
            if reason is None:
                try:
                    blocks = packing.table(name, rows)
                    reason = f"rows of {rows.shape[1]} are not a multiple of the block size"
                except NotFinite:
                    reason = f"weight {name} has entries that are not finite"
            if blocks is None:
                yield NearMiss(node.name or node.op_type, reason or "")
            else:
                yield replace(gathered(node, blocks), contract=_CONTRACTS[blocks.bits])

    def _weights(self, graph: ir.Graph) -> Iterator[tuple[str, Expr, ir.Value]]:
        """Names and rows of weights, each with what it is multiplied by."""
        for found in map(constant_matrix, graph):
            if isinstance(found, ConstantMatrix):
                yield found.name, found.rows, found.x

    def _unwanted(self, name: str, rows: Expr) -> str | None:
        if not name_matches(name, self.options.include) or name_matches(name, self.options.exclude):
            return f"weight {name} is left out by name"
        if rows.shape[0] * rows.shape[1] < self.options.smallest:
            return f"weight {name} has fewer than {self.options.smallest} entries"
        if not self.options.requantize and blocks_of(rows) is not None:
            return f"weight {name} {CAME_IN_BLOCKS}"
        return None


class _Packing:
    """Weights of `graph` packed as the options say, each once: `made`, by its identity."""

    def __init__(
        self, options: QuantizeWeights.Options, graph: ir.Graph, context: Context, step: str
    ) -> None:
        self.made: dict[Hashable, BlockWeight] = {}
        self.level = level_on(context.target, options.accuracy_level)
        self.forms = WeightForms(context, options.bits, options.block_size, options.zero_points, self.level)
        self._options, self._graph, self._context, self._step = options, graph, context, step
        tables = (constant_table(node) for node in graph if options.embedding != "keep")
        self._looked_up = {table[1].identity for table in tables if table is not None}
        self._hessians: Hessians | None = None

    def calibrate(self, weights: Sequence[tuple[str, Expr, ir.Value]]) -> None:
        """Round by GPTQ from here on, and pack `weights` as is learned where that is asked for and can be."""
        data = with_own_text(self._context, self._graph, self._options.own_text)
        is_learned = self._options.rounding == "learned"
        if is_learned and (reason := unlearnable((rows for _, rows, _ in weights), data)):
            self._context.note(f"{self._step}: how weights are rounded is not learned: {reason}")
            is_learned = False
        self._hessians = Hessians(self._context, self._step, _thinned(data) if is_learned else data)
        if is_learned:
            self._learn(weights, data)

    def of(self, name: str, rows: Expr, x: ir.Value | None) -> BlockWeight:
        """The weight `name`, `rows` [N, K], that `x` is multiplied by, if anything is. Raises `NotFinite`."""
        if rows.identity not in self.made:
            self.made[rows.identity] = self._packed(name, rows, x)
        return self.made[rows.identity]

    def table(self, name: str, rows: Expr) -> BlockWeight | None:
        """The table `name`, `rows` [V, K]; None where they do not end with a block. Raises `NotFinite`."""
        if rows.identity not in self.made:
            form = self.forms.of_table(name, rows, self._options.table_bits)
            if rows.shape[1] % form.block:
                return None
            parts = quantized_tiles(rows, form, search=self._options.search)
            self.made[rows.identity] = _stored(
                name, parts, form, (rows.shape[0], rows.shape[1]), self._context
            )
        made = self.made[rows.identity]
        return None if made.width % made.block else made

    def _learn(self, weights: Iterable[tuple[str, Expr, ir.Value]], data: CalibrationData | None) -> None:
        units: dict[Hashable, Unit] = {}
        for name, rows, x in weights:
            if rows.identity not in units:
                with contextlib.suppress(NotFinite):
                    form, parts = self._rounded(name, rows, x)
                    looked_up = rows.identity in self._looked_up and rows.shape[1] % form.block == 0
                    units[rows.identity] = Unit(name, rows, form, concatenated(list(parts)), looked_up)
        learning = Learning(self._options.steps, level=self.level)
        learned = learn(self._graph, list(units.values()), self._context, learning, data)
        for key, unit in units.items():
            shape = (unit.rows.shape[0], unit.rows.shape[1])
            packed = learned.get(unit.name, unit.packed)
            self.made[key] = _stored(unit.name, [packed], unit.form, shape, self._context)

    def _packed(self, name: str, rows: Expr, x: ir.Value | None) -> BlockWeight:
        count, width = rows.shape
        if self._hessians is None or x is None:
            form, parts = self._rounded(name, rows, x)
        else:
            known = self._context.remember(["rounded", name], lambda: self._arrays(name, rows, x))
            form = Form.parse(str(known["form"]))
            parts = [Packed(known["weight"], known["scales"], known.get("zeros"))]
        return _stored(name, parts, form, (count, width), self._context)

    def _arrays(self, name: str, rows: Expr, x: ir.Value) -> dict[str, NDArray[Any]]:
        """What `_rounded` gives, as arrays by name."""
        form, parts = self._rounded(name, rows, x)
        packed = concatenated(list(parts))
        found = {"form": np.asarray(str(form)), "weight": packed.weight, "scales": packed.scales}
        return found if packed.zeros is None else found | {"zeros": packed.zeros}

    def _rounded(self, name: str, rows: Expr, x: ir.Value | None) -> tuple[Form, Iterable[Packed]]:
        """How the weight is packed, and its rows so, some after the others."""
        hessian = None
        if self._hessians is not None and x is not None:
            shared = rows.identity in self._looked_up
            hessian = self._hessians.of(x, OF_TABLES if shared else LEAST_DAMPING)
        form = self.forms.of(name, rows, None if hessian is None else hessian.matrix)
        if hessian is None:
            return form, quantized_tiles(rows, form, search=self._options.search)
        return form, [rounded_tiles(rows, form, hessian, self._options.sweeps)]


def _thinned(data: CalibrationData | None) -> CalibrationData | None:
    """Some of the calls, evenly over the whole: what is learned leaves where it began."""
    if data is None:
        return None
    calls = data.calls[:: max(1, len(data.calls) // _BEGINNING)]
    return replace(data, calls=calls, rows=data.rows * len(calls) // len(data.calls))


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
