"""Weights of a graph in other forms: what a recipe or a plan makes of them, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import gcd, prod

from graphopt.cost._form import Form
from graphopt.cost._work import FLOAT, GraphWork, NodeWork, Product, Result, Use, Weight
from graphopt.errors import BadInput
from graphopt.ir.operators import BLOCK_EXPERTS, BLOCK_LOOKUP, BLOCK_PRODUCT

__all__ = ["with_forms"]

_FLOATS = {"16": 16, "32": 32}


def with_forms(work: GraphWork, forms: Mapping[str, str], cache_bits: int | None = None) -> GraphWork:
    """`work` with its weights in the `forms` that are named, and keys and values in `cache_bits` each.

    Names are those of weights, without what passes write after them ("~transpose"); a form is "4/128",
    "8/32z" with zero points, or "16" and "32" for floats. Blocks longer than rows become shorter, as
    quantize-weights makes them; rows that are looked up, and do not end with a block, stay as they are, and
    so do weights that are in blocks already. A table and a product of one name and form are stored once. All
    weights of experts have the form of the first, in blocks that all their rows end with.

    Raises `BadInput` for a form that there is not, and for a name that `work` has not.
    """
    known = {_base(weight.name) for weight in work.weights}
    for name in forms:
        if _base(name) not in known:
            raise BadInput(f"there is no weight {name!r} to be stored as {forms[name]!r}")
    asked = {_base(name): _parsed(form) for name, form in forms.items()}
    rounding = _Rounding(work, asked)
    nodes = [node for one in work.nodes for node in rounding.nodes(one)]
    found = replace(work, nodes=tuple(nodes), weights=tuple(rounding.weights(nodes)))
    return found if cache_bits is None else _with_cache(found, cache_bits)


def _base(name: str) -> str:
    return name.partition("~")[0]


def _parsed(text: str) -> Form | int:
    return _FLOATS[text] if text in _FLOATS else Form.parse(text)


@dataclass(frozen=True)
class _Packed:
    """A weight in blocks: its parts as they are stored, levels, scales and perhaps zero points."""

    form: Form
    parts: tuple[Weight, ...]

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


class _Rounding:
    """Nodes of `work` with weights in the `asked` forms."""

    def __init__(self, work: GraphWork, asked: Mapping[str, Form | int]) -> None:
        self._asked = asked
        self._stored = {weight.name: weight for weight in work.weights}
        self._packed: dict[str, _Packed] = {}
        self._halved: dict[str, Weight] = {}
        self._shapes: list[Weight] = []
        self._used = {use.name for node in work.nodes for use in node.weights}
        for node in work.nodes:
            if node.product is not None and node.product.name and node.product.bits >= FLOAT:
                self._pack(node, node.product)

    def nodes(self, node: NodeWork) -> Iterator[NodeWork]:
        """What takes the place of `node`."""
        product = node.product
        packed = None if product is None else self._packed.get(_base(product.name))
        if product is not None and packed is not None and product.bits >= FLOAT:
            yield self._product(node, product, packed)
            return
        table = next((use for use in node.weights if use.row_bytes), None)
        if node.kind == "lookup" and table is not None:
            yield from self._lookup(node, table)
            return
        uses = tuple(self._halved_use(use) for use in node.weights)
        if product is not None and product.name in self._halved:
            product = replace(product, bytes=sum(use.bytes for use in uses))
        yield replace(node, weights=uses, product=product)

    def weights(self, nodes: list[NodeWork]) -> Iterator[Weight]:
        """What there was and is still read, then what is new, in the order of nodes."""
        gone = self._used - {use.name for node in nodes for use in node.weights}
        new = {part.name: part for packed in self._packed.values() for part in packed.parts}
        yield from (self._halved.get(name, one) for name, one in self._stored.items() if name not in gone)
        last = [use.name for node in sorted(nodes, key=_turn) for use in node.weights]
        yield from (new[name] for name in dict.fromkeys(last) if name in new)
        yield from self._shapes

    def _pack(self, node: NodeWork, product: Product) -> None:
        form, name = self._asked.get(_base(product.name)), _base(product.name)
        if not isinstance(form, Form) or name in self._packed:
            return
        if product.experts == 1:
            self._packed[name] = _packed(name, (product.n,), product.k, form.fitting(product.k))
            return
        weights = [one for use in node.weights if _is_stacked(one := self._stored[use.name])]
        fitting = form.ending(gcd(*(weight.shape[-1] for weight in weights)))
        if fitting is not None:
            parts = [_packed(one.name, one.shape[:-1], one.shape[-1], fitting).parts for one in weights]
            self._packed[name] = _Packed(fitting, tuple(part for each in parts for part in each))

    def _product(self, node: NodeWork, product: Product, packed: _Packed) -> NodeWork:
        form = packed.form
        rounded = replace(
            product,
            name=packed.parts[0].name,
            bits=form.bits,
            block=form.block,
            zeros=form.zeros,
            bytes=packed.bytes,
        )
        if product.experts > 1:
            rows, counts = product.rows, (product.experts, product.chosen)
            parts = (Use(part.name, part.bytes, rows, 0, *counts) for part in packed.parts)
            biases = (use for use in node.weights if not _is_stacked(self._stored[use.name]))
            return replace(node, operator=BLOCK_EXPERTS, product=rounded, weights=(*parts, *biases))
        others = [use for use in node.weights if _base(use.name) != _base(product.name)]
        uses = (*(Use(part.name, part.bytes) for part in packed.parts), *others)
        return replace(node, operator=BLOCK_PRODUCT, product=rounded, weights=uses)

    def _lookup(self, node: NodeWork, table: Use) -> Iterator[NodeWork]:
        name, weight = _base(table.name), self._stored[table.name]
        form = self._asked.get(name)
        if isinstance(form, Form) and len(weight.shape) == 2 and weight.bits >= FLOAT:
            rows, width = weight.shape
            if name not in self._packed:
                form = form.ending(width)
                if form is not None:
                    self._packed[name] = _packed(name, (rows,), width, form)
            packed = self._packed.get(name)
            if packed is not None and width % packed.form.block == 0:
                uses = tuple(Use(p.name, p.bytes, table.rows, p.bytes / rows) for p in packed.parts)
                blocks = f"{node.name}/nbits"
                row = (width,) if packed.form.zeros else (width // packed.form.block, packed.form.block)
                made = tuple(
                    Result(blocks, (*result.shape[:-1], *row), result.bits) for result in node.results
                )
                yield replace(node, name=blocks, operator=BLOCK_LOOKUP, weights=uses, results=made)
                if packed.form.zeros:
                    return
                yield NodeWork(f"{node.name}/rows", "Reshape", "other", node.results, (blocks,))
                self._shapes.append(Weight(f"{node.name}/shape", (3,), 64, 24))
                return
        halved = self._halved_use(table)
        if halved.bytes == table.bytes:
            yield node
            return
        half = f"{node.name}/half"
        made = tuple(Result(half, result.shape, 16) for result in node.results)
        yield replace(node, name=half, weights=(halved,), results=made)
        yield NodeWork(f"{node.name}/wide", "Cast", "other", node.results, (half,))

    def _halved_use(self, use: Use) -> Use:
        bits = self._asked.get(_base(use.name))
        weight = self._stored[use.name]
        if not isinstance(bits, int) or weight.bits < FLOAT or weight.bits == bits:
            return use
        halved = Weight(weight.name, weight.shape, bits, weight.bytes * bits // weight.bits)
        self._halved[use.name] = halved
        return replace(use, bytes=halved.bytes, row_bytes=use.row_bytes * bits / weight.bits)


def _is_stacked(weight: Weight) -> bool:
    """Whether it is a matrix of each of several experts."""
    return len(weight.shape) == 3


def _turn(node: NodeWork) -> int:
    """Passes round products and tables first, and experts then."""
    if node.product is not None:
        return 0 if node.product.experts == 1 else 2
    return 1


def _packed(name: str, rows: tuple[int, ...], width: int, form: Form) -> _Packed:
    """A weight of `rows` of that `width`: of experts those of each, in front of which their number stands."""
    blocks, count = -(-width // form.block), prod(rows)
    size = form.block * form.bits // 8
    parts = [
        Weight(f"{name}/q{form.bits}", (*rows, blocks, size), 8, count * blocks * size),
        Weight(f"{name}/scales", (*rows, blocks), 32, 4 * count * blocks),
    ]
    if form.zeros:
        zeros = -(-blocks * form.bits // 8)
        parts.append(Weight(f"{name}/zeros", (*rows, zeros), 8, count * zeros))
    return _Packed(form, tuple(parts))


def _with_cache(work: GraphWork, bits: int) -> GraphWork:
    """Integers have a scale for each channel of each head."""
    scales: list[Weight] = []
    nodes: list[NodeWork] = []
    for node in work.nodes:
        heads = node.attention
        if heads is None or not heads.cached or heads.cache_bits == bits:
            nodes.append(node)
            continue
        uses = node.weights
        if bits < FLOAT:
            channels = heads.kv_heads * heads.head_size
            parts = [Weight(f"{node.name}/{of}_scale", (channels,), 32, 4 * channels) for of in ("k", "v")]
            scales += parts
            uses = (*uses, *(Use(part.name, part.bytes) for part in parts))
        made = (*node.results[:1], *(replace(result, bits=bits) for result in node.results[1:]))
        nodes.append(replace(node, attention=replace(heads, cache_bits=bits), weights=uses, results=made))
    caches = tuple(replace(cache, bits=bits) for cache in work.caches)
    return replace(work, nodes=tuple(nodes), caches=caches, weights=(*work.weights, *scales))
