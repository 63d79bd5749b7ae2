"""A piece of a graph that runs, with weights as large as there are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.ir import Expr, LazyTensor, Unbound, extract, lazy, to_proto
from graphopt.runtime import plain_options, session_of

__all__ = ["Piece", "looked_up", "rows_of"]

Array = NDArray[Any]
_LARGE = 1 << 20
"""Bytes from which a weight is no part of the protobuf, which has place for 2 GiB."""
_PLAIN = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.UINT8})


class Piece:
    """Computes `outputs` of `graph` from its inputs and from the values `cut`, on the thread that calls.

    `dtypes` are numpy's, by name, for values whose type the graph does not say. Weights are held once.
    """

    def __init__(
        self,
        graph: ir.Graph,
        outputs: Sequence[ir.Value],
        cut: Collection[ir.Value],
        dtypes: Mapping[str, Any],
    ) -> None:
        model = extract(graph, outputs, cut=cut)
        for value in model.graph.inputs:
            if value.type is None and (dtype := dtypes.get(value.name or "")) is not None:
                value.type = ir.TensorType(ir.DataType.from_numpy(dtype))
        self._weights = _as_inputs(model.graph)
        injected = _left_out(model.graph)
        proto = to_proto(model)
        for output in proto.graph.output:
            if output.type.HasField("tensor_type"):
                output.type.tensor_type.ClearField("shape")
        options = plain_options(threads=1)
        if injected:
            import onnxruntime as ort

            held = [ort.OrtValue.ortvalue_from_numpy(array) for array in injected.values()]
            options.add_external_initializers(list(injected), held)
        else:
            options.add_session_config_entry("session.disable_prepacking", "1")  # a copy of every weight
        self._session = session_of(
            proto.SerializeToString(), name="a piece of the graph, to calibrate it,", options=options
        )
        self.inputs = [i.name for i in self._session.get_inputs() if i.name not in self._weights]

    def run(self, feeds: Mapping[str, Array]) -> list[Any]:
        """The outputs, in order. Any number of threads may call at once. `BadInput` where the piece fails."""
        given = {name: feeds[name] for name in self.inputs}
        try:
            return list(self._session.run(None, given | self._weights))
        except Exception as error:  # onnxruntime has a class for each of its errors, with no common one
            raise BadInput(f"the model does not run on what it is calibrated on: {error}") from error


def _as_inputs(graph: ir.Graph) -> dict[str, Array]:
    """Make inputs of large weights that standard operators read: the session then needs no copy of them."""
    found = {}
    for name, value in list(graph.initializers.items()):
        if _is_large(value) and all(use.node.domain == "" for use in value.uses()):
            tensor = value.const_value
            assert tensor is not None
            found[name] = np.ascontiguousarray(tensor.numpy())
            value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
            del graph.initializers[name]
            value.const_value = None
            graph.inputs.append(value)
    return found


def _left_out(graph: ir.Graph) -> dict[str, Array]:
    """Take the data of the other large weights, which kernels want as constants, out of the graph."""
    found = {}
    for name, value in graph.initializers.items():
        if _is_large(value):
            tensor = value.const_value
            assert tensor is not None
            found[name] = np.ascontiguousarray(tensor.numpy())
            value.const_value = LazyTensor(Unbound(name, tensor.dtype, tuple(tensor.shape.numpy())))
    return found


def _is_large(value: ir.Value) -> bool:
    tensor = value.const_value
    return (
        tensor is not None
        and not value.is_graph_input()
        and tensor.dtype in _PLAIN
        and tensor.nbytes > _LARGE
    )


def rows_of(table: Expr, ids: Array, name: str) -> Array:
    """Rows `ids` of `table`, called `name`, read from where they lie. `BadInput` where it has no such row."""
    count = table.shape[0]
    wanted, places = np.unique(np.where(ids < 0, ids + count, ids), return_inverse=True)
    if wanted.size and (wanted[0] < 0 or wanted[-1] >= count):
        beyond = wanted[-1] if wanted[-1] >= count else wanted[0] - count
        raise BadInput(f"{name} has {count} rows, and what it is calibrated on asks for row {beyond}")
    rest = tuple(slice(0, size) for size in table.shape[1:])
    rows = np.empty((len(wanted), *table.shape[1:]), table.dtype.numpy())
    for place, row in enumerate(wanted.tolist()):
        rows[place] = table.read((slice(row, row + 1), *rest))[0]
    return np.asarray(rows[places.reshape(ids.shape)])


def looked_up(node: ir.Node) -> Expr | None:
    """The table that `node` takes whole rows of, where it is too large to be held; None of other nodes."""
    table = node.inputs[0] if node.inputs else None
    if (node.domain, node.op_type) != ("", "Gather") or table is None or table.const_value is None:
        return None
    if node.attributes.get_int("axis", 0) != 0 or table.is_graph_input():
        return None
    return lazy(table.const_value) if _is_large(table) else None
