"""Small graphs whose calls are timed, their weights in files that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir import MICROSOFT
from graphopt.ir.operators import BLOCK_PRODUCT

if TYPE_CHECKING:
    import onnx

__all__ = ["Graph", "Product", "Weights", "products", "value_info"]

_PAGE = 4096
_OPSETS = {"": 23, MICROSOFT: 1}
_LEVELS, _FLOATS = "levels.bin", "floats.bin"


class Weights:
    """Random bytes and random floats in files of a scratch folder, of which graphs take what they need.

    They are read where they lie, so that writing and opening a graph costs little. Equal numbers would be
    read faster than memory gives them.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        rng = np.random.Generator(np.random.SFC64(0))
        rng.integers(0, 1 << 63, size // 8, np.uint64).tofile(folder / _LEVELS)
        rng.standard_normal(size // 4, np.float32).tofile(folder / _FLOATS)


@dataclass
class Graph:
    """A graph that is being put together."""

    weights: Weights
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    _taken: dict[str, int] = field(default_factory=dict)

    def node(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **says: Any) -> str:
        """Add a node of ONNX's, or of onnxruntime's where ONNX has none of the name; its first result."""
        import onnx

        domain = "" if onnx.defs.has(operator) else MICROSOFT
        made = onnx.helper.make_node(operator, inputs, outputs, f"{operator}/{outputs[0]}", domain=domain)
        made.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in says.items())
        self.nodes.append(made)
        return outputs[0]

    def weight(self, name: str, dtype: Any, shape: Sequence[int]) -> str:
        """The next part of a file, at the beginning of a page; the first one again where it ends."""
        import onnx

        kind = np.dtype(dtype)
        file = _FLOATS if kind == np.float32 else _LEVELS
        length = int(np.prod(shape)) * kind.itemsize
        begin = self._taken.get(file, 0)
        if begin + length > self.weights.size:
            begin = 0
        self._taken[file] = begin + ceil(length / _PAGE) * _PAGE
        tensor = onnx.TensorProto(name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(kind), dims=shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", file), ("offset", begin), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        return name

    def constant(self, name: str, array: Any) -> str:
        import onnx

        self.initializers.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:
        self.inputs.append(value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:
        self.outputs.append(value_info(name, dtype, shape))
        return name

    def states(self) -> dict[str, str]:
        """Of a graph with a cache, which output is the next call's input."""
        return {one.name: one.name.replace("past", "present") for one in self.inputs if "past" in one.name}

    def proto(self) -> onnx.ModelProto:
        import onnx

        graph = onnx.helper.make_graph(self.nodes, "probe", self.inputs, self.outputs, self.initializers)
        imports = [onnx.helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
        return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)

    def write(self, path: Path) -> Path:
        """The graph as a file beside the weights."""
        path.write_bytes(self.proto().SerializeToString())
        return path


def value_info(name: str, dtype: Any, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, shape)


@dataclass(frozen=True)
class Product:
    """Rows times a weight [k, n]: of `bits` in blocks of `block`, of floats where these are 32 and 0."""

    bits: int
    block: int
    zeros: bool
    k: int
    n: int

    @property
    def bytes(self) -> int:
        """What is read of the weight: levels, scales and zero points."""
        if not self.block:
            return self.k * self.n * self.bits // 8
        blocks = ceil(self.k / self.block)
        levels = self.n * blocks * self.block * self.bits // 8
        zeros = self.n * ceil(blocks * self.bits / 8) if self.zeros else 0
        return levels + self.n * blocks * 4 + zeros

    def add(self, graph: Graph, x: str, index: int) -> str:
        """Its node, with a weight of its own."""
        k, n, bits, block = self.k, self.n, self.bits, self.block
        y = f"y{index}"
        if not block:
            return graph.node("MatMul", [x, graph.weight(f"w{index}", np.float32, (k, n))], [y])
        blocks = ceil(k / block)
        inputs = [
            x,
            graph.weight(f"w{index}", np.uint8, (n, blocks, block * bits // 8)),
            graph.weight(f"scales{index}", np.float32, (n * blocks,)),
        ]
        if self.zeros:
            inputs.append(graph.weight(f"zeros{index}", np.uint8, (n * ceil(blocks * bits / 8),)))
        says = {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": 4}
        return graph.node(BLOCK_PRODUCT, inputs, [y], **says)


def products(weights: Weights, one: Product, copies: int) -> Graph:
    """x float32[rows, k] times so many weights, the results added up."""
    graph = Graph(weights)
    x = graph.input("x", np.float32, ["rows", one.k])
    results = [one.add(graph, x, i) for i in range(copies)]
    graph.node("Sum", results, [graph.output("sum", np.float32, ["rows", one.n])])
    return graph
