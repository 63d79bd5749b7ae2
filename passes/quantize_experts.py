"""quantize-experts: the weights of experts in blocks of 4 or 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import onnx_ir as ir

from graphopt.ir import MICROSOFT, LazyTensor, Reshaped, has_data, lazy, name_matches, static_dim
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, Pass

from ._forms import SMALLEST_BLOCK, Form
from ._nbits import NotFinite, kept, quantized_tiles

_ROUTER_WEIGHTS = 14  # QMoE's input router_weights


class QuantizeExperts(Pass):
    """MoE becomes QMoE, the weights of its experts rounded to nearest in blocks with a scale each.

    Before: MoE(x, logits, W1, b1, W2, b2); W1 [experts, 2 * inner, hidden], W2 [experts, hidden, inner]
    After:  QMoE(x, logits, packed W1, its scales, b1, packed W2, its scales, b2)
    Blocks run along the reduced axis and are made smaller until both sizes are whole numbers of them. Which
    experts a token goes to is decided outside and not touched; where weights do not sum to one
    (normalize_routing_weights = 0), QMoE is given them: its kernel for the CPU normalizes its own.
    Refuses: weights that are not constant, without data or not finite; sizes that 16 does not divide; names
    that `exclude` matches; a third product, or the sparse mixer, which QMoE does not have.
    """

    name: ClassVar[str] = "quantize-experts"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 10.0)
    _AT_8_BITS: ClassVar[Contract] = Contract.lossy("sqnr", 25.0)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """bits a weight; block_size along the reduced axis; accuracy_level 4 computes in int8, 0 in float32
        (with 8 bits always in int8); search tries several scales for each block of 4-bit weights; exclude:
        globs over weight names, separated by commas.
        """

        bits: Literal[4, 8] = 4
        block_size: Literal[16, 32, 64, 128, 256] = 128
        accuracy_level: Literal[0, 4] = 4
        search: bool = True
        exclude: str = ""

    def effective_contract(self) -> Contract:
        return self._AT_8_BITS if self.options.bits == 8 else self.contract

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.op_type != "MoE" or node.domain != MICROSOFT:
                continue
            reason = self._unfit(node)
            if reason is None:
                try:
                    yield self._quantized(node, context)
                    continue
                except NotFinite:
                    reason = "its experts' weights have entries that are not finite"
            yield NearMiss(node.name or "MoE", reason)

    def _unfit(self, node: ir.Node) -> str | None:
        if any(value is not None for value in node.inputs[6:]):
            return "QMoE has no third product"
        if node.attributes.get_int("use_sparse_mixer", 0):
            return "QMoE has no sparse mixer"
        for value in (node.inputs[2], node.inputs[4]):
            tensor = value.const_value if value is not None and not value.is_graph_input() else None
            if value is None or tensor is None or tensor.dtype != ir.DataType.FLOAT:
                return "its experts' weights are not float32 constants"
            if not has_data(tensor):
                return "its experts' weights have no data"
            if name_matches(value.name or "", self.options.exclude):
                return f"weight {value.name} is left out by name"
        if self._block(node) is None:
            return "the sizes of its experts are not multiples of a block size"
        return None

    def _block(self, node: ir.Node) -> int | None:
        widths = [static_dim(v, -1) or 1 for v in (node.inputs[2], node.inputs[4])]
        block: int = self.options.block_size
        while block >= SMALLEST_BLOCK and any(width % block for width in widths):
            block //= 2
        return block if block >= SMALLEST_BLOCK else None

    def _quantized(self, node: ir.Node, context: Context) -> Edit:
        block = self._block(node)
        assert block is not None
        make = Nodes(node.name or "experts")
        x, logits, first, b1, second, b2 = (*node.inputs, None)[:6]
        inputs = [
            *(x, logits),
            *self._packed(first, block, make, context),
            b1,
            *self._packed(second, block, make, context),
            b2,
        ]
        if not node.attributes.get_int("normalize_routing_weights", 0):
            shares = make.op("Softmax", [logits], "shares", like=logits, axis=-1)
            inputs += [*[None] * (_ROUTER_WEIGHTS - len(inputs)), shares]
        y = make.op(
            "QMoE",
            inputs,
            "nbits",
            like=node.outputs[0],
            domain=MICROSOFT,
            **dict[str, Any](node.attributes),
            expert_weight_bits=self.options.bits,
            block_size=block,
            accuracy_level=self.options.accuracy_level,
            weights_prepacked=0,
        )
        return Edit(
            f"{self.options.bits}-bit experts in blocks of {block}",
            remove=[node],
            insert=make.nodes,
            initializers=make.initializers,
            replace={node.outputs[0]: y},
        )

    def _packed(
        self, value: ir.Value | None, block: int, make: Nodes, context: Context
    ) -> tuple[ir.Value, ir.Value]:
        """uint8[experts, N, bytes] and float32[experts, N, blocks]."""
        assert value is not None
        assert value.const_value is not None
        bits, (experts, count, width) = self.options.bits, value.const_value.shape.numpy()
        rows = Reshaped(lazy(value.const_value), (experts * count, width))
        form = Form(bits, block)
        parts = quantized_tiles(rows, form, search=self.options.search)
        packed, scales, _ = kept(parts, form, (experts * count, width), context)
        weight = LazyTensor(Reshaped(packed, (experts, count, width * bits // 8)))
        scale = ir.tensor(scales.reshape(experts, count, width // block))
        return (
            make.weight(weight, f"{value.name}/q{bits}"),
            make.weight(scale, f"{value.name}/scales"),
        )
