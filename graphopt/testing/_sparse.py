"""A model whose weights lie beyond 2 GiB of a file that takes no space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.parser
import onnx_ir as ir

from graphopt.families import Case
from graphopt.ir import load_model
from graphopt.testing._example import Example

__all__ = ["SparseFile"]

_FAR = 2**31 + 4096
"""An offset that no signed 32-bit integer holds, at the start of a page."""
_WEIGHT = np.linspace(-1, 1, 16, dtype=np.float32)
_GRAPH = """<ir_version: 10, opset_import: ["" : 23]>
g (float[B,4] x) => (float[B,4] y) { a = MatMul(x, far)  b = Neg(a)  c = Neg(b)  y = MatMul(c, far_too) }
"""


@dataclass(frozen=True)
class SparseFile(Example):
    """A graph with two equal weights float[4,4] past 2 GiB of external data, in the folder `path`."""

    @classmethod
    def write(cls, folder: Path) -> SparseFile:
        """Write the model into `folder`."""
        with (folder / "weights").open("wb") as file:
            for place in (_FAR, _FAR + _WEIGHT.nbytes):
                file.seek(place)
                file.write(_WEIGHT.tobytes())
        proto = onnx.parser.parse_model(_GRAPH)
        for index, name in enumerate(("far", "far_too")):
            tensor = onnx.TensorProto(
                name=name,
                dims=[4, 4],
                data_type=onnx.TensorProto.FLOAT,
                data_location=onnx.TensorProto.EXTERNAL,
            )
            where = {
                "location": "weights",
                "offset": _FAR + index * _WEIGHT.nbytes,
                "length": _WEIGHT.nbytes,
            }
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
            proto.graph.initializer.append(tensor)
        for node in proto.graph.node:
            node.name = f"{node.output[0]}/{node.op_type}"
        (folder / "model.onnx").write_bytes(proto.SerializeToString())
        return cls(folder, {"bind": "B=2; B=1"}, _GRAPH)

    def __str__(self) -> str:
        return "weights beyond 2 GiB of a file"

    def model(self) -> ir.Model:
        return load_model(self.path / "model.onnx")

    def cases(self) -> Iterator[Case]:
        for rows in (2, 1):
            x = np.linspace(-2, 2, 4 * rows, dtype=np.float32).reshape(rows, 4)
            yield Case(f"B={rows}", {"x": x}, {})
