"""Edits that put something else in a node's place, and graphs whose weights lie in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphopt.ir import FileRange, LazyTensor, infer_types, parse
from graphopt.pipeline import Edit

Build = Callable[[ir.tape.Tape, ir.Node], ir.Value]


def node(model: ir.Model, output: str) -> ir.Node:
    return next(n for n in model.graph if n.outputs[0].name == output)


def instead(model: ir.Model, output: str, build: Build, **more: object) -> Edit:
    """An edit that puts what `build` makes in the place of the node that makes `output`."""
    old, tape = node(model, output), ir.tape.Tape()
    new = build(tape, old)
    return Edit(
        "planted",
        remove=[old],
        insert=tape.nodes,
        initializers=tape.initializers,
        replace={old.outputs[0]: new},
        **more,  # type: ignore[arg-type]
    )


def with_stored(text: str, weights: np.ndarray, path: Path) -> ir.Model:
    """The graph with the rows of `weights`, float32 and written to `path`, for all inputs but the first."""
    path.write_bytes(weights.tobytes())
    model = parse(text)
    size = weights[0].nbytes
    for index, array in enumerate(weights):
        value = model.graph.inputs.pop(1)
        place = FileRange(path, index * size, size, ir.DataType.FLOAT, array.shape)
        value.const_value = LazyTensor(place)
        model.graph.register_initializer(value)
    infer_types(model)
    return model
