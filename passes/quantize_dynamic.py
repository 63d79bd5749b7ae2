"""quantize-dynamic: products in 8-bit integers, activations quantized as they come."""

from __future__ import annotations

from collections.abc import Container, Generator, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import InMemory, LazyTensor, Transposed
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass

from ._calibration import Calibration
from ._damage import cheapest
from ._matrices import Matrix, initializer, matches, matrix
from ._nbits import NotFinite, in_tiles
from ._nodes import Nodes


class QuantizeDynamic(Pass):
    """MatMul by a constant becomes MatMulInteger: W rounded with a scale for each output, x at run time.

    Before: MatMul(x, W), MatMul(x, Transpose(W)) or Gemm(x, W, b); W float32 [K, N]
    After:  q, s, z = DynamicQuantizeLinear(x); Cast(MatMulInteger(q, W8, z)) * (s * scales[N])
    onnxruntime fuses this into one kernel at load. One scale serves a whole activation tensor, so a few large
    entries cost all others their precision: blocks (quantize-weights) are slower and closer. With `damage`,
    each product's effect on the model's output is measured; those that cost least for their size are taken
    until the sum is used up. Several products of one x share its quantization.
    Refuses: weights that are not constant, not float32 matrices, without data or not finite; small ones;
    names that `exclude` matches or `include` does not; Gemm with factors or a transposed x.
    """

    name: ClassVar[str] = "quantize-dynamic"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 20.0)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """include and exclude are globs over weight names, separated by commas; smallest: entries below which
        a weight stays as it is; bits: 7 for x86 processors without VNNI, whose sums of two 8-bit products
        overflow; damage: how much 1 - cosine of the output may grow to in all, 0 for no limit. It is
        measured on random legal inputs, for models without a cache.
        """

        bits: Literal[7, 8] = 8
        include: str = "*"
        exclude: str = ""
        smallest: int = 4096
        damage: float = 0.0

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        weights: dict[Hashable, _Rounded] = {}
        activations: dict[ir.Value, list[ir.Value]] = {}
        chosen: Container[str] | None = None
        if self.options.damage:
            chosen = yield from self._measured(graph, context)
        for node in graph:
            found = matrix(node)
            if found is None:
                continue
            reason = found if isinstance(found, str) else self._unwanted(found, chosen)
            if reason is None:
                assert isinstance(found, Matrix)
                try:
                    rounded = self._rounded(found, weights, context)
                except NotFinite:
                    reason = f"weight {found.name} has entries that are not finite"
                else:
                    yield _multiplied(node, found, rounded, activations)
                    continue
            yield NearMiss(node.name or node.op_type, reason)

    def _measured(self, graph: ir.Graph, context: Context) -> Generator[NearMiss, Any, Container[str]]:
        """The names of the weights to take."""
        products = {
            node: found
            for node in graph
            if isinstance(found := matrix(node), Matrix) and self._unwanted(found) is None
        }
        calibration = Calibration.of(context)
        if isinstance(calibration, str):
            if products:
                yield NearMiss(next(iter(products)).name or "MatMul", calibration)
            return ()
        names: list[str] = context.decide(
            self.name,
            lambda: cheapest(products, calibration, self.options.damage),
        )
        return names

    def _unwanted(self, found: Matrix, chosen: Container[str] | None = None) -> str | None:
        if chosen is not None and found.name not in chosen:
            return f"weight {found.name} would do too much damage for what it saves"
        if not matches(found.name, self.options.include) or matches(found.name, self.options.exclude):
            return f"weight {found.name} is left out by name"
        if found.size < self.options.smallest:
            return f"weight {found.name} has fewer than {self.options.smallest} entries"
        return None

    def _rounded(self, found: Matrix, made: dict[Hashable, _Rounded], context: Context) -> _Rounded:
        """The integers and scales of a weight, made once; integers go to the scratch file if there is one."""
        key = found.rows.identity
        if key not in made:
            largest = (1 << (self.options.bits - 1)) - 1
            scales: list[NDArray[np.float32]] = []

            def integers() -> Iterator[NDArray[np.int8]]:
                for values, scale in in_tiles(found.rows, lambda tile: _round(tile, largest)):
                    scales.append(scale)
                    yield values

            rows = (
                InMemory(np.concatenate(list(integers())))
                if context.scratch is None
                else context.scratch.write(integers(), ir.DataType.INT8, found.rows.shape)
            )
            made[key] = _Rounded(
                initializer(f"{found.name}/int8", LazyTensor(Transposed(rows, (1, 0)))),
                initializer(f"{found.name}/scales", ir.tensor(np.concatenate(scales))),
            )
        return made[key]


@dataclass(frozen=True)
class _Rounded:
    """Initializers int8[K, N] and float32[N] whose product is the weight, nearly."""

    weight: ir.Value
    scales: ir.Value


def _round(rows: NDArray[np.float32], largest: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8[n, K] and float32[n] with rows = int8 * scale, nearly."""
    scales = np.maximum(np.abs(rows.max(1)), np.abs(rows.min(1))) / np.float32(largest)
    if not np.isfinite(scales).all():
        raise NotFinite
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales > 1e-37)
    return np.rint(rows * inverse[:, None]).astype(np.int8), scales


def _multiplied(
    node: ir.Node, found: Matrix, rounded: _Rounded, activations: dict[ir.Value, list[ir.Value]]
) -> Edit:
    new, old = Nodes(node.name or "MatMul"), node.outputs[0]
    if found.x not in activations:
        like = [ir.Value(type=ir.TensorType(t)) for t in (ir.DataType.UINT8, ir.DataType.FLOAT)]
        kinds = [like[0], like[1], like[0]]
        activations[found.x] = new.many("DynamicQuantizeLinear", [found.x], "quantized", kinds)
    values, scale, zero = activations[found.x]
    total = new.op("MatMulInteger", [values, rounded.weight, zero], "integer", dtype=ir.DataType.INT32)
    wide = new.op("Cast", [total], "wide", dtype=ir.DataType.FLOAT, to=ir.DataType.FLOAT)
    both = new.op("Mul", [scale, rounded.scales], "scale", dtype=ir.DataType.FLOAT)
    y = new.op("Mul", [wide, both], "scaled", like=old)
    if found.bias is not None:
        y = new.op("Add", [y, found.bias], "bias", like=old)
    return Edit(
        "8-bit integer product",
        remove=found.removed,
        insert=new.nodes,
        initializers=[v for v in (rounded.weight, rounded.scales) if v.graph is None],
        replace={old: y},
        before=node,
    )
