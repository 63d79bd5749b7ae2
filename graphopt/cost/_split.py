"""A graph on several devices, on paper: what each has to do, and what they tell each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphopt.cost._dims import Dim
from graphopt.cost._work import Call, GraphWork, NodeWork, Product, Result
from graphopt.errors import BadInput

__all__ = ["Split", "tensor_parallel"]


@dataclass(frozen=True)
class Split:
    """`work` of each of `devices`, whose sums of `reduced` are added up over all of them."""

    devices: int
    work: GraphWork
    reduced: tuple[Result, ...]

    def reduced_bytes(self, call: Call) -> int:
        """Bytes of results that all devices add up in a call. A ring sends 2 (d - 1) / d of it from each."""
        return sum(result.bytes(call) for result in self.reduced)


def tensor_parallel(work: GraphWork, devices: int) -> Split:
    """Heads and columns of products shared out (Shoeybi et al. 2019, Megatron-LM).

    A product of what every device has is cut by columns, one of what is cut by rows, and its results are
    added up. What is looked up and normed, each device does by itself, and so is what chooses experts, of
    each of which a device has a part. Scores of a head stay cut.

    Raises `BadInput` where heads, columns, rows or blocks do not divide.
    """
    shared: set[str] = set()
    reduced: list[Result] = []
    nodes, weights = [], {weight.name: weight for weight in work.weights}
    choosing = {name for node in work.nodes if node.has_experts for name in node.operands}
    for node in work.nodes:
        is_cut = not shared.isdisjoint(node.operands)
        product, heads = node.product, node.attention
        if heads is not None:
            kv_heads = _share(heads.kv_heads, devices, f"heads of keys in {node.name}")
            heads = replace(heads, heads=_share(heads.heads, devices, "heads"), kv_heads=kv_heads)
        elif product is not None and product.name and node.results[0].name not in choosing:
            product = _cut(product, devices, rows=is_cut)
            for use in node.weights:
                weight = weights[use.name]
                weights[use.name] = replace(weight, bytes=use.bytes // devices)
            is_whole = is_cut or node.has_experts
            if is_whole:
                reduced.append(node.results[0])
            is_cut = not is_whole
        nodes.append(_of_each(node, devices, product, is_cut=is_cut or heads is not None))
        nodes[-1] = replace(nodes[-1], attention=heads)
        if is_cut or heads is not None:
            shared.update(result.name for result in node.results)
    caches = tuple(replace(c, shape=_narrowed(c.shape, 1, devices)) for c in work.caches)
    each = replace(work, nodes=tuple(nodes), weights=tuple(weights.values()), caches=caches)
    return Split(devices, each, tuple(reduced))


def _cut(product: Product, devices: int, *, rows: bool) -> Product:
    size = product.bytes // devices
    if rows:
        k = _share(product.k, devices, f"rows of {product.name}")
        if product.block and k % product.block:
            raise BadInput(
                f"rows of {product.name} end within a block of {product.block} on {devices} devices"
            )
        return replace(product, k=k, bytes=size)
    return replace(product, n=_share(product.n, devices, f"columns of {product.name}"), bytes=size)


def _of_each(node: NodeWork, devices: int, product: Product | None, *, is_cut: bool) -> NodeWork:
    results = node.results
    if is_cut:
        results = tuple(
            replace(
                one,
                shape=_narrowed(one.shape, 1 if node.attention and place else len(one.shape) - 1, devices),
            )
            for place, one in enumerate(results)
        )
    uses = node.weights
    if product is not node.product:
        uses = tuple(replace(use, bytes=use.bytes // devices) for use in uses)
    return replace(node, product=product, results=results, weights=uses)


def _narrowed(shape: tuple[Dim, ...], axis: int, devices: int) -> tuple[Dim, ...]:
    size = shape[axis]
    if not isinstance(size, int):
        return shape
    return (*shape[:axis], _share(size, devices, "a result"), *shape[axis + 1 :])


def _share(size: int, devices: int, what: str) -> int:
    if size % devices:
        raise BadInput(f"{size} {what} are not shared out evenly by {devices} devices")
    return size // devices
