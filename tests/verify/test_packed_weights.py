"""Windows whose weights are stored in less than a byte each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import FileRange, InMemory, LazyTensor, infer_types, parse, payload
from graphopt.pipeline import Contract
from graphopt.verify import EditVerifier
from tests.verify._planted import Build, instead

BLOCK = 32
PRODUCT = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,{rows}] x, {kind}[{rows},{columns}] q, float[{blocks},{columns}] s, {kind}[{blocks},{columns}] z)
  => (float[B,{columns}] y)
{{
  w = DequantizeLinear<axis = 0, block_size = 32>(q, s, z)
  p = MatMul(x, w)
  y = Relu(p)
}}
"""


@pytest.fixture(scope="module")
def verifier() -> Iterator[EditVerifier]:
    with EditVerifier() as made:
        yield made


def product(rows: int, columns: int, dtype: ir.DataType, path: Path | None = None) -> ir.Model:
    """A product with a weight in blocks along its rows; in a file if there is a path."""
    blocks = rows // BLOCK
    text = PRODUCT.format(rows=rows, columns=columns, blocks=blocks, kind=dtype.name.lower())
    model = parse(text)
    rng = np.random.default_rng(0)
    for value in [model.graph.inputs.pop(1) for _ in range(3)]:
        assert value.dtype is not None
        kind, shape = value.dtype, (blocks if value.name != "q" else rows, columns)
        if kind == ir.DataType.FLOAT:
            array = rng.uniform(0.01, 0.03, shape).astype(np.float32)
        else:
            array = rng.integers(*((-8, 8) if kind.is_signed() else (0, 16)), shape).astype(kind.numpy())
        if value.name == "q" and path is not None:
            stored = payload(array, kind).tobytes()
            path.write_bytes(stored)
            value.const_value = LazyTensor(FileRange(path, 0, len(stored), kind, shape))
        else:
            value.const_value = LazyTensor(InMemory(array, kind))
        model.graph.register_initializer(value)
    infer_types(model)
    return model


def again(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
    return tape.op("DequantizeLinear", list(old.inputs), dict(old.attributes))


def without_zero_point(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
    return tape.op("DequantizeLinear", list(old.inputs[:2]), dict(old.attributes))


@pytest.mark.parametrize(("build", "status"), [(again, "proven"), (without_zero_point, "failed")])
@pytest.mark.parametrize("dtype", [ir.DataType.INT4, ir.DataType.UINT4], ids=str)
def test_four_bits(verifier: EditVerifier, dtype: ir.DataType, build: Build, status: str) -> None:
    model = product(64, 96, dtype)
    found = verifier.check(model, instead(model, "w", build), Contract.exact())
    assert (found.status, found.how) == (status, "numeric")


@pytest.mark.parametrize(("build", "status"), [(again, "proven"), (without_zero_point, "failed")])
def test_an_axis_in_blocks_is_not_cut(
    verifier: EditVerifier, tmp_path: Path, build: Build, status: str
) -> None:
    """The weight is large enough to be tried in parts of its longest axis, and nobody has read it."""
    model = product(2048, 544, ir.DataType.INT4, tmp_path / "weights")
    found = verifier.check(model, instead(model, "w", build), Contract.exact(), reads_since=1 << 60)
    assert (found.status, found.reason if status == "proven" else "") == (status, "")
