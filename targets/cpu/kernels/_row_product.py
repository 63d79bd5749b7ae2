"""Products of rows that are rounded to 8 or 16 bits, as one node."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ._known import FLOAT, INT8, OWN_DOMAIN, Known
from ._uses import Uses, drop_unused, is_operator

if TYPE_CHECKING:
    import onnx

__all__ = ["join_row_products"]

_DEEPEST = 16384
"""Elements of a row: ROW_PRODUCT_DEPTH in row_product.h."""


def join_row_products(graph: onnx.GraphProto, known: Known) -> bool:
    """Replace what `quantize-dynamic` writes for a product by one node, in place; whether there was any.

    That is the product of x / r, r the largest entry of each row of x, rounded as one tensor, times r; or
    two products, of x so rounded and of what that left of x. Our kernel rounds each row by itself, to as
    many bits. It takes what stands beside the product, too: a factor for each element of a row before; and
    after it bias, Gelu, and the norm of the sum with a residual, where nothing else uses what lies between.
    """
    uses = Uses.of(graph)
    found = [one for node in graph.node if (one := _matched(node, uses, known)) is not None]
    for one in found:
        _become_one(one)
    if found:
        drop_unused(graph)
    return bool(found)


@dataclass(frozen=True)
class _Found:
    """A product of rows of x: names of its inputs, and the node whose output it is."""

    x: str
    weights: str
    scales: str
    last: onnx.NodeProto
    k: int
    n: int
    terms: int = 1
    sized: bool = False
    bias: str = ""
    factors: str = ""
    gelu: bool = False
    norm: tuple[str, ...] = ()  # residual, gain, shift
    epsilon: float = 0.0

    @property
    def y(self) -> str:
        name: str = self.last.output[0]
        return name


def _matched(node: onnx.NodeProto, uses: Uses, known: Known) -> _Found | None:
    found = _term(node, uses, known)
    if found is None:
        return None
    scaled = found.last
    for step in (_sized, _biased, _twice, _biased):
        found = step(found, node, uses, known) or found
    if found.last is scaled or found.sized == (found.terms == 2):
        return None
    for step in (_factored, _activated, _normed):
        found = step(found, node, uses, known) or found
    return found


def _term(node: onnx.NodeProto, uses: Uses, known: Known) -> _Found | None:
    """Cast(MatMulInteger(q, W, z)) * (s * scales), q, s and z of one DynamicQuantizeLinear."""
    if not is_operator(node, "MatMulInteger", 3):
        return None
    values, weights, zero = node.input
    rounded = uses.maker(values, "DynamicQuantizeLinear", 1)
    shape = known.dims(weights, INT8)
    if rounded is None or list(rounded.output[::2]) != [values, zero] or len(shape) != 2:
        return None
    k, n = shape
    wide = uses.user(node.output[0], "Cast", 1)
    if wide is None or [a.i for a in wide.attribute if a.name == "to"] != [FLOAT] or not 0 < k <= _DEEPEST:
        return None
    scaled = uses.user(wide.output[0], "Mul", 2)
    both = scaled and uses.maker(_other(scaled, wide.output[0]), "Mul", 2)
    if scaled is None or both is None or rounded.output[1] not in both.input:
        return None
    scales = _other(both, rounded.output[1])
    if known.dims(scales, FLOAT) != (n,):
        return None
    return _Found(rounded.input[0], weights, scales, scaled, k, n)


def _other(node: onnx.NodeProto, name: str) -> str:
    """The other one of two inputs."""
    other: str = node.input[1] if node.input[0] == name else node.input[0]
    return other


def _sized(found: _Found, node: onnx.NodeProto, uses: Uses, known: Known) -> _Found | None:
    """y * r, where what was rounded is x / r and r the largest entry of each row, but for zeros."""
    last = uses.user(found.y, "Mul", 2)
    even = uses.maker(found.x, "Div", 2)
    if last is None or even is None:
        return None
    x, sizes = even.input
    largest = uses.maker(sizes, "Max", 2)
    reduced = largest and uses.maker(largest.input[0], "ReduceMax", 2)
    entries = reduced and uses.maker(reduced.input[0], "Abs", 1)
    if largest is None or reduced is None or entries is None or entries.input[0] != x:
        return None
    keeps = all(a.i == 1 for a in reduced.attribute if a.name == "keepdims")
    rows = keeps and known.numbers(reduced.input[1]) == [-1]
    tiny = known.numbers(largest.input[1])
    if _other(last, found.y) != sizes or not rows or len(tiny) != 1 or not 0 < tiny[0] < 1e-20:
        return None
    return replace(found, x=x, last=last, sized=True)


def _biased(found: _Found, node: onnx.NodeProto, uses: Uses, known: Known) -> _Found | None:
    last = uses.user(found.y, "Add", 2)
    if last is None or found.bias or known.dims(_other(last, found.y), FLOAT) != (found.n,):
        return None
    return replace(found, bias=_other(last, found.y), last=last)


def _twice(found: _Found, node: onnx.NodeProto, uses: Uses, known: Known) -> _Found | None:
    """y + the same product of what rounding left of x."""
    last = uses.user(found.y, "Add", 2)
    if last is None or found.sized:
        return None
    beside = uses.maker(_other(last, found.y), "Mul", 2)
    wides = [uses.maker(name, "Cast", 1) for name in beside.input] if beside else []
    products = [uses.maker(wide.input[0], "MatMulInteger", 3) for wide in wides if wide is not None]
    again = _term(products[0], uses, known) if products and products[0] is not None else None
    if again is None or again.last is not beside or uses.user(again.y, "Add", 2) is not last:
        return None
    left = uses.maker(again.x, "Sub", 2)
    back = left and uses.maker(left.input[1], "DequantizeLinear", 3)
    if left is None or back is None or (again.weights, again.scales) != (found.weights, found.scales):
        return None
    first = uses.made[node.input[0]]
    if left.input[0] != found.x or list(back.input) != list(first.output) or back.attribute:
        return None
    return replace(found, last=last, terms=2)


def _factored(found: _Found, node: onnx.NodeProto, uses: Uses, known: Known) -> _Found | None:
    """Of x * factors, where x has as many elements in a row."""
    scaled = uses.maker(found.x, "Mul", 2)
    for x, factors in (scaled.input, reversed(scaled.input)) if scaled else ():
        if known.dims(factors, FLOAT) == (found.k,) and known.shape(x)[-1:] == (found.k,):
            return replace(found, x=x, factors=factors)
    return None


def _activated(found: _Found, node: onnx.NodeProto, uses: Uses, known: Known) -> _Found | None:
    last = uses.user(found.y, "Gelu", 1)
    if last is None or any(a.s != b"none" for a in last.attribute):
        return None
    return replace(found, last=last, gelu=True)


def _normed(found: _Found, node: onnx.NodeProto, uses: Uses, known: Known) -> _Found | None:
    """The norm of y + residual, which has y's shape, along its last axis."""
    total = uses.user(found.y, "Sum", 2) or uses.user(found.y, "Add", 2)
    last = total and (uses.user(total.output[0], "LayerNormalization", 3))
    if total is None or last is None or len(last.output) != 1:
        return None
    residual = _other(total, found.y)
    shape = known.shape(found.y)
    says = {a.name: a for a in last.attribute}
    axis = says["axis"].i if "axis" in says else -1
    epsilon = says["epsilon"].f if "epsilon" in says else 1e-5
    if not shape or known.shape(residual) != shape or axis not in (-1, len(shape) - 1):
        return None
    if any(known.dims(name, FLOAT) != (found.n,) for name in last.input[1:]):
        return None
    return replace(found, last=last, norm=(residual, *last.input[1:]), epsilon=epsilon)


def _become_one(found: _Found) -> None:
    from onnx import helper

    node = found.last
    says = {
        "K": found.k,
        "N": found.n,
        "terms": found.terms,
        "gelu": int(found.gelu),
        "epsilon": found.epsilon,
    }
    inputs = [found.x, found.weights, found.scales, found.bias, found.factors, *found.norm]
    while not inputs[-1]:
        inputs.pop()
    node.op_type, node.domain = "RowProduct", OWN_DOMAIN
    del node.input[:], node.attribute[:]
    node.input.extend(inputs)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in says.items())
