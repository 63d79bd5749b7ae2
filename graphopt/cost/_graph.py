"""The work of an ONNX graph, node by node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Literal

import onnx_ir as ir

from graphopt.cost._dims import Dim, Shape, simplest
from graphopt.cost._shapes import Shapes, meanings_of, times
from graphopt.cost._work import Call, GraphWork, Heads, NodeWork, Product, Result, Use, Weight
from graphopt.ir import content_of, infer_types, stored_bytes, subgraphs_of
from graphopt.ir.operators import (
    ATTENTION,
    ATTENTION_HEADS,
    COMPILED,
    EXPERTS,
    MATRIX_PRODUCTS,
    ONNXRUNTIME,
    OUTPUT_SIZES,
    PROJECTING_ATTENTION,
    RECURRENT,
    TABLES,
    TURNING_PRODUCTS,
    WEIGHTED_PRODUCTS,
)
from graphopt.runtime import states_by_name

__all__ = ["flops_by_node", "work_of"]

_DRAWN = {"RandomNormal", "RandomUniform"}
"""What has no inputs and is no constant."""


def work_of(
    model: ir.Model,
    sizes: Mapping[str, Dim] | None = None,
    *,
    states: Mapping[str, str] | None = None,
    otherwise: int | None = None,
) -> GraphWork:
    """What a call of `model` has to do. No weight is read, and `model` gets the types it lacks.

    `sizes` say what names of sizes in the graph mean, numbers or expressions over "batch", "rows" and "past";
    those of ids, masks and caches are known. `states` are outputs by the input that takes them in the next
    call, else those that are called so. What depends on no input is computed at load, and left out. Of an If
    the branch with more products counts, of a Loop or Scan its body, once, and it is named as unknown: so are
    nodes that ONNX and onnxruntime have not, those whose results are of unknown size, and calls of functions.
    `otherwise` is what a size is that nothing tells.
    """
    infer_types(model)
    states = states_by_name(v.name or "" for v in model.graph.inputs) if states is None else states
    meanings = meanings_of(model.graph, states) | dict(sizes or {})
    reader = _Reader(model, Shapes(model.graph, meanings, otherwise))
    weights = tuple(reader.weights())
    nodes = [found for node in model.graph for found in reader.works(node)]
    given = [value for value in model.graph.inputs if not value.is_initializer()]
    inputs = [result for value in given if (result := reader.result(value)) is not None]
    logits = next((v for v in model.graph.outputs if v.name == "logits"), model.graph.outputs[0])
    last = (reader.shapes.of(logits) or ("",))[-1:]
    return GraphWork(
        nodes=tuple(nodes),
        vocabulary=last[0] if last and isinstance(last[0], int) else 0,
        weights=weights,
        inputs=tuple(result for result in inputs if result.name not in states),
        caches=tuple(result for result in inputs if result.name in states),
        outputs=tuple(value.name or "" for value in model.graph.outputs),
        unknown=tuple(reader.unknown),
    )


def flops_by_node(
    model: ir.Model, sizes: Mapping[str, Dim] | None = None, otherwise: int = 1
) -> dict[ir.Node, int]:
    """Operations of the products of each node of the top level, subgraphs with it, in a call of one row."""
    infer_types(model)
    meanings = meanings_of(model.graph, {}) | dict(sizes or {})
    reader = _Reader(model, Shapes(model.graph, meanings, otherwise))
    return {node: sum(work.flops(Call()) for work in reader.works(node)) for node in model.graph}


class _Reader:
    """Nodes of `model` as work."""

    def __init__(self, model: ir.Model, shapes: Shapes) -> None:
        self.shapes = shapes
        self.unknown: list[str] = []
        self._model = model
        self._names: dict[object, Weight] = {}
        self._constant: dict[ir.Value, bool] = {}

    def weights(self) -> Iterator[Weight]:
        """All that is stored, each once, in the order in which it is written."""
        for graph in (self._model.graph, *self._model.graph.subgraphs()):
            for value in graph.initializers.values():
                if value.const_value is not None:
                    self._weight(value.const_value, value.name or "")
        yield from self._names.values()

    def works(self, node: ir.Node) -> list[NodeWork]:
        """Of `node` and of its subgraphs; nothing where it is computed at load."""
        if self._is_constant(node):
            return []
        inner = [[work for one in graph for work in self.works(one)] for graph in subgraphs_of(node)]
        here = self._work(node)
        if node.op_type == "If" and not node.domain:
            inner = [max(inner, key=_size)]
        return [here, *(work for works in inner for work in works)]

    def result(self, value: ir.Value) -> Result | None:
        shape = self.shapes.of(value)
        return (
            None
            if shape is None
            else Result(value.name or "", shape, (value.dtype or ir.DataType.FLOAT).bitwidth)
        )

    def _is_constant(self, node: ir.Node) -> bool:
        """Whether it depends on no input, and on nothing around its graph."""
        if any(subgraphs_of(node)) or not node.outputs:
            return False
        key = node.outputs[0]
        if key not in self._constant:
            known = all(value is None or self._is_stored(value) for value in node.inputs)
            self._constant[key] = known and node.op_type not in _DRAWN
        return self._constant[key]

    def _is_stored(self, value: ir.Value) -> bool:
        """Whether it is a weight, or made of nothing else."""
        if value.is_initializer():
            return not value.is_graph_input()
        maker = value.producer()
        return maker is not None and self._is_constant(maker)

    def _work(self, node: ir.Node) -> NodeWork:
        results = [self.result(value) for value in node.outputs if value.name]
        known = [result for result in results if result is not None]
        operator = (node.domain, node.op_type)
        product, attention = self._product(node), self._attention(node)
        is_odd = node.domain not in ("", "ai.onnx.ml", *ONNXRUNTIME) or node.op_type == COMPILED
        if len(known) < len(results) or is_odd or node.op_type in RECURRENT:
            self.unknown.append(node.name or node.op_type)
        uses = tuple(self._uses(node))
        kind: Literal["product", "attention", "lookup", "other"] = "other"
        if attention is not None:
            kind = "attention"
        elif product is not None:
            kind = "product"
        elif operator in TABLES and any(use.row_bytes for use in uses):
            kind = "lookup"
        return NodeWork(
            name=node.name or "",
            operator=node.op_type,
            kind=kind,
            results=tuple(known),
            operands=tuple(v.name or "" for v in node.inputs if v is not None and not self._is_stored(v)),
            weights=uses,
            product=product,
            attention=attention,
        )

    def _uses(self, node: ir.Node) -> Iterator[Use]:
        operator = (node.domain, node.op_type)
        tables, rows_input, axis_name = TABLES.get(operator, ((), 0, ""))
        chosen = EXPERTS.get(operator)
        for index, value in enumerate(node.inputs):
            shape = self.shapes.of(value)
            for weight in self._behind(value):
                if chosen is not None and index > 1 and shape and isinstance(shape[0], int):
                    rows = (self.shapes.of(node.inputs[0]) or ("",))[:-1]
                    yield Use(
                        weight.name,
                        weight.bytes,
                        rows,
                        experts=shape[0],
                        chosen=node.attributes.get_int(chosen, 1),
                    )
                elif index in tables and shape:
                    axis = node.attributes.get_int(axis_name, 0) if axis_name else 0
                    ids = node.inputs[rows_input] if rows_input < len(node.inputs) else None
                    count = shape[axis] if isinstance(shape[axis], int) else 1
                    yield Use(
                        weight.name,
                        weight.bytes,
                        self.shapes.of(ids) or (),
                        weight.bytes / max(int(count), 1),
                    )
                else:
                    yield Use(weight.name, weight.bytes)

    def _behind(self, value: ir.Value | None) -> list[Weight]:
        """The weights that a constant is made of."""
        if value is None:
            return []
        if value.is_initializer():
            return [] if value.const_value is None else [self._weight(value.const_value, value.name or "")]
        maker = value.producer()
        if maker is None or not self._is_constant(maker):
            return []
        return [weight for one in maker.inputs for weight in self._behind(one)]

    def _weight(self, tensor: ir.TensorProtocol, name: str) -> Weight:
        key = content_of(tensor)
        if key not in self._names:
            shape = tuple(int(dim) for dim in tensor.shape.numpy())
            self._names[key] = Weight(name, shape, tensor.dtype.bitwidth, stored_bytes(tensor))
        return self._names[key]

    def _product(self, node: ir.Node) -> Product | None:
        operator = (node.domain, node.op_type)
        result = self.shapes.of(node.outputs[0]) if node.outputs else None
        if operator in EXPERTS:
            return self._experts(node)
        if operator in PROJECTING_ATTENTION and result is not None:
            weight = node.inputs[PROJECTING_ATTENTION[operator]]
            shape = self.shapes.of(weight)
            return self._stored_product(weight, shape[0], shape[1], result[:-1]) if shape else None
        if operator in WEIGHTED_PRODUCTS:
            weight = node.inputs[WEIGHTED_PRODUCTS[operator]]
            shape = self.shapes.of(weight)
            if shape is None or result is None:
                return None
            channel = len(result) - 1 if "nhwc" in node.domain else 1
            rows = (*result[:channel], *result[channel + 1 :])
            return self._stored_product(weight, times(shape[1:]), shape[0], rows)
        if node.op_type == "ConvTranspose":
            source, shape = self.shapes.of(node.inputs[0]), self.shapes.of(node.inputs[1])
            if source is None or shape is None:
                return None
            return self._stored_product(node.inputs[1], shape[0], times(shape[1:]), (source[0], *source[2:]))
        if operator in OUTPUT_SIZES:
            return self._blocks(node, result)
        if node.op_type in MATRIX_PRODUCTS | TURNING_PRODUCTS:
            return self._matrices(node, result)
        return None

    def _blocks(self, node: ir.Node, result: Shape | None) -> Product | None:
        attributes, operator = node.attributes, (node.domain, node.op_type)
        packed = [weight for value in node.inputs[1:4] for weight in self._behind(value)]
        if not packed:
            return None
        return Product(
            name=packed[0].name,
            k=attributes.get_int("K", 0),
            n=attributes.get_int(OUTPUT_SIZES[operator], 0),
            bits=attributes.get_int("bits", 4),
            block=attributes.get_int("block_size", 0),
            zeros=len(node.inputs) > 3 and node.inputs[3] is not None,
            bytes=sum(weight.bytes for weight in packed),
            rows=(result or (1,))[:-1],
        )

    def _matrices(self, node: ir.Node, result: Shape | None) -> Product | None:
        left = self.shapes.of(node.inputs[0])
        if not left or result is None:
            return None
        turned = node.op_type in TURNING_PRODUCTS and node.attributes.get_int("transA", 0) == 1
        depth = left[-2 if turned else -1]
        others = [v for v in node.inputs[1:] if v is not None and len(self.shapes.of(v) or ()) >= 2]
        if others and self._is_stored(others[0]):
            return self._stored_product(others[0], depth, (result or (1,))[-1], result[:-1])
        if node.inputs[0] is not None and self._is_stored(node.inputs[0]) and len(result) >= 2:
            return self._stored_product(node.inputs[0], depth, result[-2], (*result[:-2], result[-1]))
        return _computed(depth, result)

    def _stored_product(self, weight: ir.Value | None, k: Dim, n: Dim, rows: Shape) -> Product:
        """By a weight that lies as it is multiplied: floats, or integers with scales."""
        parts = self._behind(weight)
        if not parts or not isinstance(k, int) or not isinstance(n, int):
            return _computed(k, (*rows, n))
        largest = max(parts, key=lambda part: part.bytes)
        bits, block, zeros = largest.bits, 0, False
        maker = weight.producer() if weight is not None else None
        while maker is not None and maker.op_type != "DequantizeLinear":
            source = maker.inputs[0] if maker.inputs else None
            maker = source.producer() if source is not None else None
        if maker is not None:
            block = maker.attributes.get_int("block_size", 0)
            zeros = len(maker.inputs) > 2 and maker.inputs[2] is not None
        elif weight is not None and not weight.is_initializer() and weight.dtype is not None:
            bits = weight.dtype.bitwidth
        return Product(largest.name, k, n, bits, block, zeros, sum(part.bytes for part in parts), rows)

    def _experts(self, node: ir.Node) -> Product | None:
        """All matrices of all experts as one: `n` is that of all of an expert's, side by side."""
        bits = node.attributes.get_int("expert_weight_bits", 0)
        chosen = node.attributes.get_int(EXPERTS[node.domain, node.op_type], 1)
        source = self.shapes.of(node.inputs[0])
        entries, name, total, experts, block = 0, "", 0, 1, node.attributes.get_int("block_size", 0)
        for value in node.inputs[2:]:
            shape = self.shapes.of(value)
            if value is None or not shape:
                continue
            total += sum(weight.bytes for weight in self._behind(value))
            packed = value.dtype == ir.DataType.UINT8
            is_matrix = packed or (value.dtype is not None and value.dtype.is_floating_point() and not bits)
            if len(shape) != 3 or not is_matrix:
                continue
            first, *sizes = (dim if isinstance(dim, int) else 1 for dim in shape)
            experts, name = first, name or (self._behind(value) or [Weight("", (), 0, 0)])[0].name
            entries += prod(sizes) * (8 // (bits or 8) if packed else 1)
        if not source or not isinstance(source[-1], int) or not entries:
            return None
        width = source[-1]
        return Product(
            name, width, entries // width, bits or 32, block, False, total, source[:-1], experts, chosen
        )

    def _attention(self, node: ir.Node) -> Heads | None:
        operator = (node.domain, node.op_type)
        result = self.shapes.of(node.outputs[0]) if node.outputs else None
        if operator not in ATTENTION or result is None or len(result) < 3:
            return None
        queries_input, keys_input = ATTENTION[operator]
        heads_name, kv_name, past_input, causal_name = ATTENTION_HEADS[operator]
        attributes = node.attributes
        queries = result if queries_input is None else self.shapes.of(node.inputs[queries_input]) or result
        keys = result if queries_input is None else self.shapes.of(node.inputs[keys_input]) or queries
        stacked = len(queries) == 4  # [batch, heads, length, size]
        heads = queries[1] if stacked else attributes.get_int(heads_name, 1)
        kv_heads = keys[1] if len(keys) == 4 else attributes.get_int(kv_name, 0) or heads
        size, value_size = queries[-1], result[-1]
        if queries_input is None:
            size = value_size
        if not (isinstance(heads, int) and isinstance(kv_heads, int)):
            return None
        if not (isinstance(size, int) and isinstance(value_size, int)):
            return None
        if not stacked:
            size, value_size = size // heads, value_size // heads
        past = node.inputs[past_input] if past_input < len(node.inputs) else None
        cache = self.shapes.of(past)
        bits = 32 if past is None or past.dtype is None else past.dtype.bitwidth
        length: Dim = keys[-2]
        if past is not None and cache is not None:
            length = simplest(f"({cache[2]}) + ({keys[-2]})")
            bits = attributes.get_int("kv_cache_bit_width", 0) or bits
        return Heads(
            heads=heads,
            kv_heads=kv_heads,
            head_size=size,
            cache_bits=bits,
            window=max(attributes.get_int("local_window_size", 0), 0),
            value_size=value_size,
            batch=result[0],
            queries=queries[-2],
            keys=length,
            causal=not causal_name or attributes.get_int(causal_name, 0) == 1,
            cached=past is not None,
        )


def _computed(depth: Dim, result: Sequence[Dim]) -> Product:
    """A product of two computed operands: sizes that vary are counted as rows."""
    k, n, rows = depth, result[-1], list(result[:-1])
    if not isinstance(n, int):
        rows, n = [*rows, n], 1
    if not isinstance(k, int):
        rows, k = [*rows, k], 1
    return Product("", k, n, 32, 0, False, 0, tuple(rows))


def _size(works: Iterable[NodeWork]) -> tuple[int, float]:
    works = list(works)
    return sum(work.flops(Call()) for work in works), sum(work.read(Call()) for work in works)
