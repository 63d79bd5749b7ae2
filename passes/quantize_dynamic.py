"""quantize-dynamic: products in 8-bit integers, activations quantized as they come."""

from __future__ import annotations

from collections.abc import Container, Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import (
    ConstantMatrix,
    LazyTensor,
    Transposed,
    constant_matrix,
    initializer,
    name_matches,
)
from graphopt.pipeline import (
    Calibration,
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    Pass,
    map_tiles,
)

from ._damage import Rest, Scale, cheapest
from ._nbits import NotFinite

_TINY = 1e-30  # rows of zeros are divided by this
_ROWS_OPSET = 18  # ReduceMax takes its axes as an input


class QuantizeDynamic(Pass):
    """MatMul by a constant becomes MatMulInteger: W rounded with a scale for each output, x at run time.

    Before: MatMul(x, W), MatMul(x, Transpose(W)) or Gemm(x, W, b); W float32 [K, N]
    After:  q, s, z = DynamicQuantizeLinear(x); Cast(MatMulInteger(q, W8, z)) * (s * scales[N])
        or, with `scale = "row"`, the same of x / r times r, r the largest entry of each row of x
    onnxruntime fuses this into one kernel at load. One scale serves a whole activation tensor, so a few large
    entries cost all others their precision; a scale for each row takes two more passes over x. Blocks
    (quantize-weights) are slower and closer than both. With `damage`, each product's effect on the model's
    output is measured; those that cost least for their size are taken until the sum is used up. The others
    are left, or with `rest = "twice"` computed for x and once more for what rounding left of it: two products
    in integers, with 16 bits of x between them. Several products of one x share its quantization.
    Refuses: weights that are not constant, not float32 matrices, without data or not finite; small ones;
    names that `exclude` matches or `include` does not; Gemm with factors or a transposed x; a scale for each
    row before opset 18; a target that wants scales beforehand.
    """

    name: ClassVar[str] = "quantize-dynamic"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 20.0)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """include and exclude are globs over weight names, separated by commas; smallest: entries below which
        a weight stays as it is; bits: 7 for x86 processors without VNNI, whose sums of two 8-bit products
        overflow; scale: what has one, a whole activation or each row of it; damage: how much 1 - cosine of
        an output may grow to in all, the rest being rounded in blocks or computed twice; 0 for no limit. It
        is measured on random legal inputs, or on calibration data where nobody says what these are, for
        models without a cache.
        """

        bits: Literal[7, 8] = 8
        scale: Scale = "tensor"
        include: str = "*"
        exclude: str = ""
        smallest: int = 4096
        damage: float = 0.0
        rest: Rest = "blocks"

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        weights: dict[Hashable, _Rounded] = {}
        activations: dict[tuple[ir.Value, str], _Activation] = {}
        chosen: Mapping[str, Scale | Rest] | None = None
        if context.target is not None and context.target.capabilities().static_scales():
            yield NearMiss(
                self.name, f"the target {context.target.name!r} computes none of these in integers"
            )
            return
        if self.options.damage:
            chosen = yield from self._measured(graph, context)
        for node in graph:
            found = constant_matrix(node)
            if found is None:
                continue
            reason = found if isinstance(found, str) else self._unwanted(found, context, chosen)
            if reason is None:
                assert isinstance(found, ConstantMatrix)
                try:
                    rounded = self._rounded(found, weights, context)
                except NotFinite:
                    reason = f"weight {found.name} has entries that are not finite"
                else:
                    how = self.options.scale if chosen is None else chosen[found.name]
                    yield _multiplied(node, found, rounded, how, activations)
                    continue
            yield NearMiss(node.name or node.op_type, reason)

    def _measured(
        self, graph: ir.Graph, context: Context
    ) -> Generator[NearMiss, Any, Mapping[str, Scale | Rest]]:
        """The weights to take, and how."""
        products = {
            node: found
            for node in graph
            if isinstance(found := constant_matrix(node), ConstantMatrix)
            and self._unwanted(found, context) is None
        }
        if not products:
            return {}
        calibration = Calibration.of(context, next(iter(products.values())).x)
        if isinstance(calibration, str):
            yield NearMiss(next(iter(products)).name or "MatMul", calibration)
            return {}
        options = self.options
        names: list[str] = context.decide(
            self.name,
            lambda: cheapest(products, calibration, options.scale, options.rest, options.damage),
        )
        ways: dict[str, Scale | Rest] = {}
        if options.rest == "twice":
            ways = {product.name: options.rest for product in products.values()}
        return ways | dict.fromkeys(names, options.scale)

    def _unwanted(
        self, found: ConstantMatrix, context: Context, chosen: Container[str] | None = None
    ) -> str | None:
        if self.options.scale == "row" and context.opset < _ROWS_OPSET:
            return f"a scale for each row needs opset {_ROWS_OPSET}"
        if not name_matches(found.name, self.options.include) or name_matches(
            found.name, self.options.exclude
        ):
            return f"weight {found.name} is left out by name"
        if found.size < self.options.smallest:
            return f"weight {found.name} has fewer than {self.options.smallest} entries"
        if chosen is not None and found.name not in chosen:
            return f"weight {found.name} would change the output too much for what it saves"
        return None

    def _rounded(self, found: ConstantMatrix, made: dict[Hashable, _Rounded], context: Context) -> _Rounded:
        """The integers and scales of a weight, made once."""
        key = found.rows.identity
        if key not in made:
            largest = (1 << (self.options.bits - 1)) - 1
            scales: list[NDArray[np.float32]] = []

            def integers() -> Iterator[NDArray[np.int8]]:
                for values, scale in map_tiles(found.rows, lambda tile: _round(tile, largest)):
                    scales.append(scale)
                    yield values

            rows = context.store(integers(), ir.DataType.INT8, found.rows.shape)
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


@dataclass(frozen=True)
class _Term:
    """What is rounded to uint8 values, their scale and zero point."""

    values: ir.Value
    scale: ir.Value
    zero: ir.Value


@dataclass(frozen=True)
class _Activation:
    """x in integers: the sum of one or two terms; what each row was divided by, if it was."""

    terms: tuple[_Term, ...]
    sizes: ir.Value | None = None


def _quantized(x: ir.Value, how: str, new: Nodes) -> _Activation:
    sizes = None
    if how == "row":
        axis = new.constant([-1], np.int64, "last")
        entries = new.op("Abs", [x], "entries", like=x)
        largest = new.op("ReduceMax", [entries, axis], "largest", dtype=x.dtype)
        sizes = new.op("Max", [largest, new.constant(_TINY, np.float32, "tiny")], "sizes", dtype=x.dtype)
        x = new.op("Div", [x, sizes], "even", like=x)
    first = _term(x, "quantized", new)
    if how != "twice":
        return _Activation((first,), sizes)
    back = new.op("DequantizeLinear", [first.values, first.scale, first.zero], "rounded", like=x)
    return _Activation((first, _term(new.op("Sub", [x, back], "left", like=x), "again", new)))


def _term(x: ir.Value, name: str, new: Nodes) -> _Term:
    like = [ir.Value(type=ir.TensorType(t)) for t in (ir.DataType.UINT8, ir.DataType.FLOAT)]
    return _Term(*new.many("DynamicQuantizeLinear", [x], name, [like[0], like[1], like[0]]))


def _multiplied(
    node: ir.Node,
    found: ConstantMatrix,
    rounded: _Rounded,
    how: str,
    activations: dict[tuple[ir.Value, str], _Activation],
) -> Edit:
    new, old = Nodes(node.name or "MatMul"), node.outputs[0]
    if (found.x, how) not in activations:
        activations[found.x, how] = _quantized(found.x, how, new)
    x = activations[found.x, how]
    y = _product(x.terms[0], rounded, old, "", new)
    if x.sizes is not None:
        y = new.op("Mul", [y, x.sizes], "sized", like=old)
    if found.bias is not None:
        y = new.op("Add", [y, found.bias], "bias", like=old)
    for term in x.terms[1:]:
        y = new.op("Add", [y, _product(term, rounded, old, "again/", new)], "both", like=old)
    return Edit(
        "two 8-bit integer products" if how == "twice" else f"8-bit integer product, a scale for each {how}",
        remove=found.removed,
        insert=new.nodes,
        initializers=[v for v in (rounded.weight, rounded.scales) if v.graph is None] + new.initializers,
        replace={old: y},
        before=node,
    )


def _product(x: _Term, rounded: _Rounded, y: ir.Value, prefix: str, new: Nodes) -> ir.Value:
    """The product of a term and a weight, in float32 like `y`."""
    total = new.op(
        "MatMulInteger", [x.values, rounded.weight, x.zero], f"{prefix}integer", dtype=ir.DataType.INT32
    )
    wide = new.op("Cast", [total], f"{prefix}wide", dtype=ir.DataType.FLOAT, to=ir.DataType.FLOAT)
    both = new.op("Mul", [x.scale, rounded.scales], f"{prefix}scale", dtype=ir.DataType.FLOAT)
    return new.op("Mul", [wide, both], f"{prefix}scaled", like=y)
