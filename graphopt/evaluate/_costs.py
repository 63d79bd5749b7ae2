"""What the nodes of a graph cost by their shapes alone: bytes of weights, and operations of products."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from graphopt.ir import content_of, stored_bytes, subgraphs_of
from graphopt.ir.operators import (
    ATTENTION,
    EXPERTS,
    MATRIX_PRODUCTS,
    OUTPUT_SIZES,
    PROJECTING_ATTENTION,
    TABLES,
    TURNING_PRODUCTS,
    WEIGHTED_PRODUCTS,
)

__all__ = ["Cost", "step_cost", "step_flops", "stored_by_node"]


@dataclass(frozen=True)
class Cost:
    """Bytes of weights read, and floating point operations (a multiplication and an addition are two)."""

    bytes: int = 0
    flops: int = 0


def step_cost(model: ir.Model, sizes: Mapping[str, int] | None = None) -> Cost:
    """Of one call of `model` where every size that varies is 1: a decoding step that has no past.

    Weights are counted once each, however many nodes read them; of a table that rows are taken of, these; of
    experts, the chosen ones. Caches are no weights, and are left out. Operations are those of matrix
    products, convolutions and attention, and none of recurrent layers (LSTM, scans of states). Of an If the
    dearest branch counts, of a Loop its body, once. `sizes` are by weight what is read instead, where a
    runtime keeps it in another form. Nothing is read.
    """
    reads = _Reads(dict(sizes or {}))
    flops = _graph_flops(model.graph)
    return Cost(sum(reads.of(model.graph).values()), flops)


def stored_by_node(model: ir.Model) -> dict[ir.Node | None, int]:
    """Bytes of weights by the first node that uses them, those that no node does by None.

    They add up to the size of all weights of the graph and its subgraphs; shared ones count once.
    """
    found: dict[ir.Node | None, int] = {}
    seen: set[object] = set()
    used = [(node, value) for node in model.graph.all_nodes() for value in node.inputs]
    graphs = (model.graph, *model.graph.subgraphs())
    unused = [(None, value) for graph in graphs for value in graph.initializers.values()]
    for node, value in (*used, *unused):
        tensor = value.const_value if value is not None and value.is_initializer() else None
        if tensor is None or content_of(tensor) in seen:
            continue
        seen.add(content_of(tensor))
        found[node] = found.get(node, 0) + stored_bytes(tensor)
    return found


@dataclass
class _Reads:
    """Bytes read by weight. `sizes` are by name."""

    sizes: Mapping[str, int]

    def of(self, graph: ir.Graph) -> dict[object, int]:
        found: dict[object, int] = {}
        for node in graph:
            for index, value in enumerate(node.inputs):
                tensor = value.const_value if value is not None and value.is_initializer() else None
                if value is None or tensor is None:
                    continue
                whole = self.sizes.get(value.name or "", stored_bytes(tensor))
                read = found.get(content_of(tensor), 0) + _taken(node, index, whole)
                found[content_of(tensor)] = min(read, whole)
            for inner in self._branches(node):
                for key, read in inner.items():
                    found[key] = max(found.get(key, 0), read)
        return found

    def _branches(self, node: ir.Node) -> list[dict[object, int]]:
        inner = [self.of(graph) for graph in subgraphs_of(node)]
        if node.op_type == "If" and not node.domain:
            return [max(inner, key=lambda reads: sum(reads.values()))]
        return inner


def _taken(node: ir.Node, index: int, whole: int) -> int:
    """Bytes that `node` reads of `whole`, its input at `index`."""
    weight = node.inputs[index]
    shape = _sizes(weight)
    chosen = EXPERTS.get((node.domain, node.op_type))
    if chosen is not None and index > 1 and shape:
        return whole * min(node.attributes.get_int(chosen, 1), shape[0]) // max(shape[0], 1)
    tables, rows_input, axis_name = TABLES.get((node.domain, node.op_type), ((), 0, ""))
    if index not in tables or not shape:
        return whole
    axis = node.attributes.get_int(axis_name, 0) if axis_name else 0
    rows = prod(_sizes(_input(node, rows_input)) or [1])
    return whole * min(rows, shape[axis]) // max(shape[axis], 1)


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _sizes(value: ir.Value | None) -> list[int] | None:
    """The shape where every size that varies is 1; None where even the rank is not known."""
    if value is None or value.shape is None:
        return None
    return [dim if isinstance(dim, int) else 1 for dim in value.shape]


def _graph_flops(graph: ir.Graph) -> int:
    return sum(step_flops(node) for node in graph)


def step_flops(node: ir.Node) -> int:
    """Operations of the products of `node` and of its subgraphs, where every size that varies is 1."""
    inner = [_graph_flops(graph) for graph in subgraphs_of(node)]
    if inner:
        return max(inner) if node.op_type == "If" and not node.domain else sum(inner)
    return 2 * _multiplications(node)


def _multiplications(node: ir.Node) -> int:
    operator = (node.domain, node.op_type)
    result = _sizes(node.outputs[0]) if node.outputs else None
    if operator in ATTENTION:
        return _attention(node, result)
    if operator in EXPERTS:
        return sum(_of_experts(node))
    if operator in WEIGHTED_PRODUCTS:
        weight = _sizes(_input(node, WEIGHTED_PRODUCTS[operator]))
        return prod(result or [0]) * prod((weight or [0])[1:])
    if node.op_type == "ConvTranspose":
        return prod(_sizes(node.inputs[0]) or [0]) * prod((_sizes(_input(node, 1)) or [0])[1:])
    if operator in OUTPUT_SIZES:
        rows = prod((result or [1])[:-1])
        return rows * node.attributes.get_int("K", 0) * node.attributes.get_int(OUTPUT_SIZES[operator], 0)
    if node.op_type in MATRIX_PRODUCTS | TURNING_PRODUCTS:
        left = _sizes(node.inputs[0])
        turned = node.op_type in TURNING_PRODUCTS and node.attributes.get_int("transA", 0) == 1
        return prod(result) * left[-2 if turned else -1] if left and result is not None else 0
    return 0


def _attention(node: ir.Node, result: list[int] | None) -> int:
    """Of queries with keys, and of what comes of them with values."""
    queries_input, keys_input = ATTENTION[node.domain, node.op_type]
    keys = _sizes(_input(node, keys_input))
    if result is None or len(result) < 2:
        return 0
    weight = PROJECTING_ATTENTION.get((node.domain, node.op_type))
    projected = 0 if weight is None else prod(result[:-1]) * prod(_sizes(_input(node, weight)) or [0])
    queries = None if queries_input is None or keys is None else _sizes(_input(node, queries_input))
    queries, keys = queries or result, keys or result  # packed into one input they are of the result's size
    return projected + keys[-2] * (prod(queries) + prod(result))


def _of_experts(node: ir.Node) -> Iterator[int]:
    """Elements of the matrices of the experts that one row is given to."""
    bits = node.attributes.get_int("expert_weight_bits", 0)
    chosen = node.attributes.get_int(EXPERTS[node.domain, node.op_type], 1)
    rows = prod((_sizes(node.inputs[0]) or [1])[:-1])
    for value in node.inputs[2:]:
        shape = _sizes(value)
        if value is None or not shape or len(shape) != 3:
            continue
        packed = value.dtype == ir.DataType.UINT8
        if packed or (value.dtype is not None and value.dtype.is_floating_point() and not bits):
            yield rows * chosen * prod(shape[1:]) * (8 // (bits or 8) if packed else 1)
