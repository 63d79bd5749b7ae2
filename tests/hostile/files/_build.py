"""What the builders of hostile files share: each returns a model, or the bytes of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.helper import (
    make_graph,
    make_node,
    make_opsetid,
    make_tensor_value_info,
)
from onnx.numpy_helper import from_array

__all__ = ["BOMBS", "DAMAGED", "LEGAL", "UNRUNNABLE", "net", "serialized"]

Built = ModelProto | bytes
Builder = Callable[[], Built]

DAMAGED: dict[str, Builder] = {}
"""Every command refuses these with exit code 2."""
UNRUNNABLE: dict[str, Builder] = {}
"""onnx's checker has nothing to say; onnxruntime has."""
LEGAL: dict[str, Builder] = {}
"""Odd, but valid: no command may call itself a bug."""
BOMBS: dict[str, Builder] = {}
"""Valid, and large once computed: a limit that tests lower meets them."""


def damaged(build: Builder) -> Builder:
    DAMAGED[build.__name__] = build
    return build


def unrunnable(build: Builder) -> Builder:
    UNRUNNABLE[build.__name__] = build
    return build


def legal(build: Builder) -> Builder:
    LEGAL[build.__name__] = build
    return build


def bomb(build: Builder) -> Builder:
    BOMBS[build.__name__] = build
    return build


def serialized(built: Built) -> bytes:
    """The bytes of the file."""
    return built if isinstance(built, bytes) else built.SerializeToString()


def floats(name: str, *dims: int | str) -> ValueInfoProto:
    return make_tensor_value_info(name, TensorProto.FLOAT, dims)


def net(
    *nodes: NodeProto,
    inputs: Sequence[ValueInfoProto] = (floats("x", 2, 4),),
    outputs: Sequence[ValueInfoProto] = (floats("y", 2, 4),),
    weights: Sequence[TensorProto] = (),
    opset: int = 23,
) -> ModelProto:
    """A model of `nodes`; the default interface is float[2,4] x to float[2,4] y."""
    graph = make_graph(list(nodes), "net", list(inputs), list(outputs), list(weights))
    return onnx.helper.make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=10)


def relu() -> ModelProto:
    return net(make_node("Relu", ["x"], ["y"]))


def ints(name: str, *values: int) -> TensorProto:
    return from_array(np.asarray(values, np.int64), name)


def with_weight(weight: TensorProto) -> ModelProto:
    return net(make_node("Add", ["x", "w"], ["y"]), weights=[weight])


def external(location: str = "net.data", dims: Sequence[int] = (4,), **entries: object) -> ModelProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(value))
    return with_weight(weight)
