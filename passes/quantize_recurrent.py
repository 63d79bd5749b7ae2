"""quantize-recurrent: an LSTM with weights of 8 bits, computed in integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import MICROSOFT, LazyTensor, Transposed, const_of, has_data, lazy, name_matches, node_name
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    OpsetRange,
    Pass,
    map_tiles,
)

from ._gated import PRODUCT, Quantized, gated

_KERNEL = "DynamicQuantizeLSTM"
_KERNELS = {"LSTM": _KERNEL, "GRU": PRODUCT}
_SPLIT_OPSET = 18
"""Where Split takes a number of parts."""
_WEIGHTS = (1, 2)
_INPUTS = 8
"""An LSTM's, optional ones counted; scales and zero points of both weights come after these."""
_SMALLEST = np.float32(1e-30)
"""A scale of less is none: what it would divide is zero."""


class QuantizeRecurrent(Pass):
    """The weights of an LSTM or GRU are rounded with a scale for each output, activations as they come.

    Before: LSTM(X, W[d,4h,i], R[d,4h,h], B, ..), float32
    After:  DynamicQuantizeLSTM(X, W8[d,i,4h], R8[d,h,4h], B, .., scales and zero points of W and of R)
    Before: GRU(X, W[d,3h,i], R[d,3h,h], B, ..), float32, linear_before_reset = 1
    After:  Scan of the gates over DynamicQuantizeMatMul(X, W8[i,3h], B), its step with
            DynamicQuantizeMatMul(H, R8[h,3h], B), for each direction
    A step of an LSTM reads all of R for one row of numbers: a quarter of the bytes takes about a third of the
    time. Needs no calibration.
    Refuses: an RNN, which has no kernel in integers; a target without these; weights that are computed, not
    float32, without data, or small; coupled gates and batches first; a GRU of few units, with other gates or
    lengths of its own, or that resets before its product; names that `exclude` matches or `include` does not.
    """

    name: ClassVar[str] = "quantize-recurrent"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 20.0)
    opsets: ClassVar[OpsetRange] = OpsetRange(7, None)

    @dataclass(frozen=True)
    class Options:
        """include and exclude are globs over node names, separated by commas; smallest: entries below which a
        recurrent weight stays as it is; units: of fewer a GRU does, as fast in floats; bits: 7 for x86
        processors without VNNI, whose sums of two 8-bit products overflow.
        """

        bits: Literal[7, 8] = 8
        include: str = "*"
        exclude: str = ""
        smallest: int = 4096
        units: int = 320

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "" or node.op_type not in ("LSTM", "GRU", "RNN"):
                continue
            reason = self._unfit(node, context)
            if reason is None:
                yield self._gated(node) if node.op_type == "GRU" else self._rounded(node, context)
            else:
                yield NearMiss(node_name(node), reason)

    def _unfit(self, node: ir.Node, context: Context) -> str | None:
        kernel = _KERNELS.get(node.op_type)
        if kernel is None:
            return f"{node.op_type} has no kernel in integers"
        target = context.target
        if target is not None and not target.capabilities().supports(MICROSOFT, kernel, 1, {}):
            return f"the target has no {kernel}"
        name = node_name(node)
        if not name_matches(name, self.options.include) or name_matches(name, self.options.exclude):
            return "it is left out by name"
        if node.attributes.get_int("input_forget", 0) or node.attributes.get_int("layout", 0):
            return "its gates are coupled, or its batches come first"
        for place in _WEIGHTS:
            weight = node.inputs[place]
            tensor = None if weight is None or weight.is_graph_input() else weight.const_value
            if tensor is None or not has_data(tensor):
                return "its weights are no constants with data"
            if tensor.dtype != ir.DataType.FLOAT:
                return "its weights are not float32"
        recurrent = node.inputs[2]
        assert recurrent is not None
        assert recurrent.const_value is not None
        if recurrent.const_value.size < self.options.smallest:
            return f"its recurrent weight has fewer than {self.options.smallest} entries"
        return self._unfit_gated(node, context) if node.op_type == "GRU" else None

    def _unfit_gated(self, node: ir.Node, context: Context) -> str | None:
        if node.attributes.get_int("hidden_size", 0) < self.options.units:
            return f"it has fewer than {self.options.units} units: floats are as fast"
        if not node.attributes.get_int("linear_before_reset", 0):
            return "it resets its state before the product"
        if context.opset < _SPLIT_OPSET:
            return f"its steps need opset {_SPLIT_OPSET}"
        if len(node.inputs) > 4 and node.inputs[4] is not None:
            return "its texts have lengths of their own"
        if "clip" in node.attributes or "activations" in node.attributes:
            return "its gates are others"
        if len(node.inputs) > 3 and node.inputs[3] is not None and const_of(node.inputs[3]) is None:
            return "its bias is no constant"
        return None

    def _gated(self, node: ir.Node) -> Edit:
        new = Nodes(node_name(node))

        def weight(place: int, direction: int) -> Quantized:
            value = node.inputs[place]
            assert value is not None
            assert value.const_value is not None
            rows = value.const_value.numpy()[direction]
            integers, steps = self._integers(rows)
            label = f"{value.name}{direction or ''}"
            return Quantized(
                new.weight(ir.tensor(np.ascontiguousarray(integers.T)), f"{label}/int8"),
                new.weight(ir.tensor(steps), f"{label}/scales"),
            )

        made = gated(node, weight, new)
        kept = {old: y for old, y in zip(node.outputs, made, strict=False) if old.name}
        return Edit(
            "GRU whose products are 8-bit integers",
            remove=[node],
            insert=new.nodes,
            initializers=new.initializers,
            replace=kept,
        )

    def _integers(self, tile: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """`tile` [.., n, k] rounded, and the scales of its outputs [.., n]."""
        largest = (1 << (self.options.bits - 1)) - 1
        steps = np.maximum(np.abs(tile).max(-1) / np.float32(largest), _SMALLEST)
        return np.rint(tile / steps[..., None]).astype(np.int8), steps

    def _rounded(self, node: ir.Node, context: Context) -> Edit:
        new = Nodes(node_name(node))
        inputs = [*node.inputs, *[None] * (_INPUTS - len(node.inputs))]
        for place in _WEIGHTS:
            weight = inputs[place]
            assert weight is not None
            inputs[place], *scales = self._weight(weight, new, context)
            inputs += scales
        outputs = [value if value.name else None for value in node.outputs]
        made = new.many(_KERNEL, inputs, "integer", outputs, domain=MICROSOFT)
        new.nodes[-1].attributes.update({k: a for k, a in node.attributes.items() if k != "layout"})
        kept = {old: y for old, y in zip(node.outputs, made, strict=True) if old.name}
        return Edit(
            "LSTM in 8-bit integers",
            remove=[node],
            insert=new.nodes,
            initializers=new.initializers,
            replace=kept,
        )

    def _weight(self, weight: ir.Value, new: Nodes, context: Context) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Integers int8 [d, k, 4h] of a weight [d, 4h, k], scales and zero points [d, 4h]."""
        tensor = weight.const_value
        assert tensor is not None
        scales: list[NDArray[np.float32]] = []

        def rows() -> Iterator[NDArray[np.int8]]:
            for values, steps in map_tiles(lazy(tensor), self._integers):
                scales.append(steps)
                yield values

        held = context.store(rows(), ir.DataType.INT8, tuple(tensor.shape.numpy()))
        steps = np.concatenate(scales)
        return (
            new.weight(LazyTensor(Transposed(held, (0, 2, 1))), f"{weight.name}/int8"),
            new.weight(ir.tensor(steps), f"{weight.name}/scales"),
            new.weight(ir.tensor(np.zeros(steps.shape, np.int8)), f"{weight.name}/zeros"),
        )
