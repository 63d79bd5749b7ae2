"""What onnxruntime's optimizer changes at load: packages compute what the source says all the same.

Each graph is one of findings/onnxruntime-{range-gather, integer-reciprocal, relu-before-four-bits,
four-bit-activations, axes-behind-transpose}.sh.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

import graphopt
from graphopt.recipes import OptimizeOptions

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
BACKWARDS = """g (float[N,4] x) => (float[n,4] y) <int64 one = {1}, int64 down = {-1}>
{ s = Shape<start = 0, end = 1>(x) n = Squeeze(s) last = Sub(n, one)
  places = Range(last, down, down) y = Gather(x, places) }"""
BELOW_ZERO = (
    BACKWARDS.replace("Range(last, down, down)", "Range(least, none, one)")
    .replace("down = {-1}", "none = {0}, int64 minus = {-2}")
    .replace("last = Sub(n, one)", "none2 = Sub(n, n) least = Add(none2, minus)")
)
RECIPROCAL = """g (int64[3] x, int64[3] z) => (int64[3] y) <int64 one = {1}>
{ share = Div(one, x) y = Mul(share, z) }"""
CUT = """g (float[4] x) => (float[4] y) <float scale = {1.0}, TYPE>
{ r = Relu(x) q = QuantizeLinear(r, scale, zero) y = DequantizeLinear(q, scale, zero) }"""
POOLED = """g (float[1,1,4,4] x) => (float[a,b,c,d] y) <float scale = {1.0}, int4 zero = {0}>
{ q = QuantizeLinear(x, scale, zero) d = DequantizeLinear(q, scale, zero) m = NODE
  o = QuantizeLinear(m, scale, zero) y = DequantizeLinear(o, scale, zero) }"""
TURNED = """g (float[1,3,4,5] x) => (float[a,b,c,d] y) <CONSTANTS>
{ t = Transpose<perm = [0, 2, 3, 1]>(x) u = NODE y = Transpose<perm = [0, 3, 1, 2]>(u) }"""
PAD, RESIZE = "Pad(t, pads, , axes)", 'Resize<mode = "nearest", axes = [AXES]>(t, , scales)'

ROW = np.asarray([-3, -1, 0, 2], np.float32)
IMAGE = np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)
TABLE = np.arange(12, dtype=np.float32).reshape(3, 4)
SQUARE = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) - 8
INTEGERS = {"x": np.asarray([2, 3, 1]), "z": np.asarray([4, 9, 5])}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "backwards": (BACKWARDS, {"x": TABLE}),
    "below zero": (BELOW_ZERO, {"x": TABLE}),
    "reciprocal": (RECIPROCAL, INTEGERS),
    "relu to int4": (CUT.replace("TYPE", "int4 zero = {0}"), {"x": ROW}),
    "relu to uint4": (CUT.replace("TYPE", "uint4 zero = {8}"), {"x": ROW}),
    "pooled": (POOLED.replace("NODE", "MaxPool<kernel_shape = [2, 2]>(d)"), {"x": SQUARE}),
    "reduced": (POOLED.replace("NODE", "ReduceMax(d)"), {"x": SQUARE}),
    "padded": (
        TURNED.replace("NODE", PAD).replace(
            "CONSTANTS", "int64[2] axes = {1, 2}, int64[4] pads = {1, 2, 1, 2}"
        ),
        {"x": IMAGE},
    ),
    "padded, all axes": (
        TURNED.replace("NODE", PAD).replace(
            "CONSTANTS", "int64[4] axes = {0, 2, 1, 3}, int64[8] pads = {0, 1, 2, 0, 0, 0, 0, 0}"
        ),
        {"x": IMAGE},
    ),
    "resized": (
        TURNED.replace("NODE", RESIZE.replace("AXES", "1, 2")).replace(
            "CONSTANTS", "float[2] scales = {2, 3}"
        ),
        {"x": IMAGE},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_package_computes_what_the_source_says(tmp_path: Path, name: str) -> None:
    text, feeds = CASES[name]
    model = onnx.parser.parse_model(HEADER + text)
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "net.npz", **feeds)
    expected = ReferenceEvaluator(model).run(None, feeds)[0]
    assert not _same(_as_deployed(tmp_path / "net.onnx", feeds), expected), "onnxruntime is right now"

    options = OptimizeOptions(inputs=tmp_path / "net.npz")
    package = graphopt.optimize(tmp_path / "net.onnx", tmp_path / "out", recipe="lossless", options=options)

    assert package.manifest.closing_check == "passed"
    assert _same(_as_deployed(package.path / "model.onnx", feeds), expected)


def _as_deployed(path: Path, feeds: dict[str, Any]) -> Any:
    """The result with the runtime's own optimizations, as usual; None where the graph does not run."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return session.run(None, feeds)[0]
    except Exception:  # onnxruntime's own kinds of errors, of loading and of running
        return None


def _same(found: Any, expected: Any) -> bool:
    return found is not None and found.shape == expected.shape and bool((found == expected).all())
