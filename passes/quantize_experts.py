"""quantize-experts: the weights of experts in blocks of 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd
from typing import ClassVar, Literal

import onnx_ir as ir

from graphopt.ir import (
    MICROSOFT,
    LazyTensor,
    Reshaped,
    has_data,
    lazy,
    name_matches,
    stacked_blocks_of,
    static_dim,
)
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, Pass

from ._block_nodes import CAME_IN_BLOCKS
from ._expert_nodes import ExpertWeight, lacks, packed_experts
from ._expert_rounding import ExpertRounding
from ._forms import SMALLEST_BLOCK, Form
from ._nbits import NotFinite, Packed, kept, quantized_tiles

_MATRICES = 3
"""Of an expert, each as large as the others: a gate, what it multiplies, and the way back."""


class QuantizeExperts(Pass):
    """MoE becomes QMoE, the weights of its experts rounded in blocks with a scale each.

    Before: MoE(x, logits, W1, b1, W2, b2); W1 [experts, 2 * inner, hidden], W2 [experts, hidden, inner]
    After:  QMoE(x, logits, packed W1, its scales, b1, packed W2, its scales, b2)
    Blocks run along the reduced axis and are made smaller until both sizes are whole numbers of them. Which
    experts a token goes to is decided outside and not touched; where weights do not sum to one
    (normalize_routing_weights = 0), QMoE is given them: its kernel for the CPU normalizes its own.
    By GPTQ each expert is rounded on the tokens that go to it, as much as each counts in the sum, W2 behind
    W1 as it is rounded; experts that too few go to are rounded to nearest, which is noted.
    Refuses: weights that are not constant, without data or not finite; those that came in blocks; sizes that
    16 does not divide; names that `exclude` matches; a third product, or the sparse mixer, which QMoE does
    not have.
    """

    name: ClassVar[str] = "quantize-experts"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 10.0)
    _AT_8_BITS: ClassVar[Contract] = Contract.lossy("sqnr", 25.0)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """bits a weight; block_size along the reduced axis; rounding of each entry by itself (nearest), or of
        a column after the other (gptq, calibrated), with sweeps of coordinate descent afterwards;
        accuracy_level 4 computes in int8, 0 in float32 (with 8 bits always in int8); search tries several
        scales for each block of 4-bit weights; exclude: globs over weight names, separated by commas;
        requantize: also weights that the source holds in blocks, which loses twice.
        """

        bits: Literal[4, 8] = 4
        block_size: Literal[16, 32, 64, 128, 256] = 128
        rounding: Literal["nearest", "gptq"] = "nearest"
        sweeps: int = 2
        accuracy_level: Literal[0, 4] = 4
        search: bool = True
        exclude: str = ""
        requantize: bool = False

    def effective_contract(self) -> Contract:
        return self._AT_8_BITS if self.options.bits == 8 else self.contract

    def form(self, name: str, k: int, n: int, *, looked_up: bool = False, experts: int = 1) -> str | None:
        if experts == 1 or name_matches(name, self.options.exclude):
            return None
        block = self._ending(k, n // _MATRICES)
        return None if block is None else str(Form(self.options.bits, block))

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        found = [node for node in graph if node.op_type == "MoE" and node.domain == MICROSOFT]
        rounding = ExpertRounding(context, self.name, self.options.sweeps)
        for node in context.watch(found, "rounding experts of layer"):
            reason = self._unfit(node)
            if reason is None:
                try:
                    yield self._quantized(node, context, rounding)
                    continue
                except NotFinite:
                    reason = "its experts' weights have entries that are not finite"
            yield NearMiss(node.name or "MoE", reason)

    def _unfit(self, node: ir.Node) -> str | None:
        for value in (node.inputs[2], node.inputs[4]):
            tensor = value.const_value if value is not None and not value.is_graph_input() else None
            if value is None or tensor is None or tensor.dtype != ir.DataType.FLOAT:
                return "its experts' weights are not float32 constants"
            if not has_data(tensor):
                return "its experts' weights have no data"
            if name_matches(value.name or "", self.options.exclude):
                return f"weight {value.name} is left out by name"
            if not self.options.requantize and stacked_blocks_of(lazy(tensor)) is not None:
                return f"weight {value.name} {CAME_IN_BLOCKS}"
        if self._block(node) is None:
            return "the sizes of its experts are not multiples of a block size"
        return lacks(node)

    def _block(self, node: ir.Node) -> int | None:
        return self._ending(*(static_dim(v, -1) or 1 for v in (node.inputs[2], node.inputs[4])))

    def _ending(self, *widths: int) -> int | None:
        """The block that rows of these widths end with."""
        block: int = self.options.block_size
        while block >= SMALLEST_BLOCK and gcd(*widths) % block:
            block //= 2
        return block if block >= SMALLEST_BLOCK else None

    def _quantized(self, node: ir.Node, context: Context, rounding: ExpertRounding) -> Edit:
        block = self._block(node)
        assert block is not None
        make, form = Nodes(node.name or "experts"), Form(self.options.bits, block)
        values = [value for value in (node.inputs[2], node.inputs[4]) if value is not None]
        calibrated = rounding.of(node, form) if self.options.rounding == "gptq" else None
        first, second = (
            _stored(
                value,
                self._nearest(value, form) if calibrated is None else calibrated[i],
                form,
                make,
                context,
            )
            for i, value in enumerate(values)
        )
        return packed_experts(node, make, first, second, form, self.options.accuracy_level)

    def _nearest(self, value: ir.Value, form: Form) -> Iterable[Packed]:
        assert value.const_value is not None
        experts, count, width = value.const_value.shape.numpy()
        rows = Reshaped(lazy(value.const_value), (experts * count, width))
        return quantized_tiles(rows, form, search=self.options.search)


def _stored(
    value: ir.Value, parts: Iterable[Packed], form: Form, make: Nodes, context: Context
) -> ExpertWeight:
    """Initializers of what `value` [experts, N, K] was rounded to, some rows after the others."""
    assert value.const_value is not None
    experts, count, width = value.const_value.shape.numpy()
    packed, scales, _ = kept(parts, form, (experts * count, width), context)
    weight = LazyTensor(Reshaped(packed, (experts, count, width * form.bits // 8)))
    scale = ir.tensor(scales.reshape(experts, count, width // form.block))
    return ExpertWeight(
        make.weight(weight, f"{value.name}/q{form.bits}"), make.weight(scale, f"{value.name}/scales")
    )
