"""Examples with weights that callers may replace or that have more users, in other types, at older opsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from graphopt.families import Case
from graphopt.ir import graph_protos, infer_types, to_proto
from graphopt.pipeline import Edit
from graphopt.testing._example import Example
from graphopt.testing._execution import Array, outputs, session
from graphopt.verify import changed_meaning

__all__ = ["others"]

_WEIGHTS = 3
"""Weights of a graph that are tried as inputs and with another user, one at a time: patterns hold as many."""
_OLDER = (17, 13)
"""Opsets: one without Gelu (20), RMSNormalization and Attention (23), and the first that passes know."""
_KINDS = {"float16": onnx.TensorProto.FLOAT16, "float64": onnx.TensorProto.DOUBLE}
_USED = "graphopt_used"


@dataclass(frozen=True)
class _Other(Example):
    """`base` as `change` makes it, with what `feed` makes of its feeds as further calls."""

    base: Example
    said: str
    change: Callable[[ir.Model], ir.Model]
    kind: str = "float32"
    overridden: str | None = None

    def __str__(self) -> str:
        return f"{self.base} ({self.said})"

    def model(self) -> ir.Model:
        return self.change(self.base.model())

    def cases(self) -> Iterator[Case]:
        for case in self.base.cases():
            feeds = {name: self._typed(array) for name, array in case.feeds.items()}
            yield Case(case.name, feeds, case.compare, case.padding)
            if self.overridden is not None:
                held = self.base.model().graph.initializers[self.overridden].const_value
                assert held is not None
                other = {self.overridden: _another(held.numpy())}
                yield Case(f"{case.name}, {self.overridden} given", feeds | other, case.compare, case.padding)

    def _typed(self, array: Array) -> Array:
        return array.astype(self.kind) if array.dtype == np.float32 else array

    def is_sound(self) -> bool:
        """Whether onnxruntime runs it: it has not every operator for every type."""
        try:
            made = session(self.model())
            for case in self.cases():
                outputs(made, case.feeds)
        except Exception:
            return False
        return True


def others(base: Example, *, lossy: bool) -> Iterator[Example]:
    """Those of `base` that onnxruntime runs; none of one whose inputs belong to a model family.

    A `lossy` pass is spared weights that callers give: its budget is for those that it has seen.
    """
    if "family" not in base.header:
        yield from (o for o in _made(base) if not (lossy and o.overridden) and o.is_sound())


def _made(base: Example) -> Iterator[_Other]:
    def other(said: str, change: Callable[[ir.Model], ir.Model], **more: str) -> _Other:
        return _Other(base.path, base.header, base.before, base, said, change, **more)

    model = base.model()
    held = (value for value in model.graph.initializers.values() if value.const_value is not None)
    values = [value for value in held if not value.is_graph_input()]
    floats = [v.name or "" for v in values if v.dtype is not None and v.dtype.is_floating_point()]
    for name in floats[:_WEIGHTS]:
        yield other(f"{name} is an input too", lambda m, n=name: _input_too(m, n), overridden=name)  # type: ignore[misc]
        yield other(f"{name} has another user", lambda m, n=name: _used_again(m, n))  # type: ignore[misc]
    for kind, code in _KINDS.items():
        yield other(f"in {kind}", lambda m, c=code: _retyped(m, c), kind=kind)  # type: ignore[misc]
    for opset in () if model.functions else _OLDER:  # those import an opset of their own
        if opset < model.opset_imports.get("", 0) and changed_meaning(model, Edit("", opset=opset)) is None:
            yield other(f"at opset {opset}", lambda m, o=opset: _at(m, o))  # type: ignore[misc]


def _another(array: Array) -> Array:
    """Values of the same type that are others."""
    return np.asarray(array * 1.5 + 0.25, array.dtype)


def _input_too(model: ir.Model, name: str) -> ir.Model:
    model.graph.inputs.append(model.graph.initializers[name])
    return model


def _used_again(model: ir.Model, name: str) -> ir.Model:
    weight = model.graph.initializers[name]
    node = ir.Node("", "Identity", [weight], name=_USED)
    node.outputs[0].name = _USED
    node.outputs[0].shape, node.outputs[0].type = weight.shape, weight.type
    model.graph.append(node)
    model.graph.outputs.append(node.outputs[0])
    return model


def _at(model: ir.Model, opset: int) -> ir.Model:
    model.graph.opset_imports[""] = opset
    return model


def _retyped(model: ir.Model, code: int) -> ir.Model:
    """Every float32 of it, in inputs, weights, constants and casts, as another type."""
    proto = to_proto(model)
    for graph in graph_protos(proto.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
                value.type.tensor_type.elem_type = code
        tensors = list(graph.initializer)
        for node in graph.node:
            tensors += [a.t for a in node.attribute if a.HasField("t")]
            for attribute in node.attribute:
                if (node.op_type, attribute.name, attribute.i) == ("Cast", "to", onnx.TensorProto.FLOAT):
                    attribute.i = code
        for tensor in tensors:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                array = numpy_helper.to_array(tensor).astype(onnx.helper.tensor_dtype_to_np_dtype(code))
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    made = ir.from_proto(proto)
    infer_types(made)
    return made
