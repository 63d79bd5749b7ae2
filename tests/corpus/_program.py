"""Small graphs made at random: operators, dynamic sizes, subgraphs, functions, values that become sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

__all__ = ["Program", "program"]

WIDTH = 8
OPSETS = (18, 21, 23, 23, 23)
SIZES = ((2, 3), (1, 1), (3, 5), (0, 2), (2, 0))
F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL  # noqa: E741
Dim = int | str


@dataclass(frozen=True)
class Value:
    """A value of the graph; a name for a dim is one that inputs have, or a new one where nobody knows it."""

    name: str
    kind: int
    dims: tuple[Dim, ...]


def wide(value: Value) -> bool:
    """Whether it is [.., .., 8], as most are."""
    return len(value.dims) == 3 and value.dims[2] == WIDTH


@dataclass(frozen=True)
class Program:
    """A model and calls of it that are legal as far as sizes go; `number` made it."""

    number: int
    model: onnx.ModelProto
    calls: list[dict[str, np.ndarray]]


@dataclass
class _Builder:
    rng: np.random.Generator
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    functions: list[onnx.FunctionProto] = field(default_factory=list)
    count: int = 0

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def weight(self, array: Any, dtype: Any = np.float32) -> str:
        name = self.name()
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def ints(self, *numbers: int) -> str:
        return self.weight(list(numbers), np.int64)

    def op(
        self, kind: str, inputs: Sequence[str | Value], *, outputs: int = 1, domain: str = "", **rest: Any
    ) -> Any:
        names = [self.name() for _ in range(outputs)]
        given = [i.name if isinstance(i, Value) else i for i in inputs]
        self.nodes.append(helper.make_node(kind, given, names, domain=domain, **rest))
        return names[0] if outputs == 1 else names

    def keep(self, name: str, kind: int, dims: Sequence[Dim]) -> Value:
        value = Value(name, kind, tuple(dims))
        self.values.append(value)
        return value

    def pick(self, kind: int, fits: Callable[[Value], bool] = lambda value: True) -> Value | None:
        found = [v for v in self.values if v.kind == kind and fits(v)]
        # Late ones rather than early ones, so that graphs get deep.
        weights = np.arange(1, len(found) + 1, dtype=float)
        return found[self.rng.choice(len(found), p=weights / weights.sum())] if found else None

    def like(self, value: Value) -> Value | None:
        return self.pick(value.kind, lambda v: v.dims == value.dims)

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def choose(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def normal(self, *shape: int) -> str:
        return self.weight(self.rng.standard_normal(shape).round(3) * 0.5)


def program(number: int, seed: int = 0) -> Program:
    """Graph `number` of those that `seed` makes."""
    from tests.corpus._statements import STATEMENTS

    rng = np.random.default_rng((seed, number))
    build = _Builder(rng, int(rng.choice(OPSETS)))
    inputs = [
        Value("x", F, ("B", "S", WIDTH)),
        Value("z", F, ("B", "S", WIDTH)),
        Value("ids", I, ("B", "S")),
        Value("mask", B, ("B", "S")),
        Value("n", I, ()),
        Value("flag", B, ()),
    ]
    build.values.extend(inputs)
    wanted = int(rng.integers(4, 15))
    while wanted > 0:
        statement = STATEMENTS[int(rng.integers(len(STATEMENTS)))]
        wanted -= bool(statement(build))
    made = build.values[len(inputs) :]
    used = {name for node in build.nodes for name in node.input}
    outputs = [v for v in made if v.name not in used][-3:] or made[-1:]
    described = [helper.make_tensor_value_info(v.name, v.kind, v.dims) for v in inputs]
    results = [helper.make_tensor_value_info(v.name, v.kind, v.dims) for v in outputs]
    graph = helper.make_graph(build.nodes, f"generated{number}", described, results, build.weights)
    opsets = [helper.make_opsetid("", build.opset)]
    if build.functions:
        opsets.append(helper.make_opsetid("local", 1))
    model = helper.make_model(graph, opset_imports=opsets, functions=build.functions, ir_version=10)
    # onnxruntime's Scan does not survive being given nothing.
    scans = any(node.op_type == "Scan" for node in build.nodes)
    sizes = [pair for pair in SIZES if not (scans and 0 in pair)]
    return Program(number, model, [_call(rng, *pair) for pair in sizes])


def _call(rng: np.random.Generator, batch: int, length: int) -> dict[str, np.ndarray]:
    return {
        "x": rng.standard_normal((batch, length, WIDTH)).astype(np.float32),
        "z": rng.standard_normal((batch, length, WIDTH)).astype(np.float32),
        "ids": rng.integers(0, 6, (batch, length)),
        "mask": rng.random((batch, length)) < 0.7,
        "n": np.asarray(rng.integers(1, 4)),
        "flag": np.asarray(rng.random() < 0.5),
    }
