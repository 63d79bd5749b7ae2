#!/usr/bin/env bash
# Gather by a Range that goes down turns an axis around (`x[arange(n - 1, -1, -1)]`), and one that starts below zero takes the end. Neither is the
# Slice of the same three numbers, since an end of -1 means the last element there, and one of 0 nothing at all; a good engineer would expect an
# optimizer to ask before it writes one for the other. onnxruntime 1.32.0 does not, at its default level (GatherToSliceFusion, at extended).
#
# Seen: by Range(3, -1, -1) and Range(-3, 0, 1), four numbers come out as no number at all, without a message; right without optimizations.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime==1.32.0
cd "$work"
venv/bin/python -W ignore - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort

model = onnx.parser.parse_model("""
    <ir_version: 10, opset_import: ["": 21]>
    net (float[4] x, int64 start, int64 limit, int64 delta) => (float[n] y) {
        places = Range(start, limit, delta)
        y = Gather(x, places)
    }
""")
onnx.checker.check_model(model, full_check=True)

def run(feeds, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)[0].tolist()

usual = ort.SessionOptions().graph_optimization_level
for numbers, expected, wrong in (
    ((0, 3, 1), [10, 11, 12], None), ((3, -1, -1), [13, 12, 11, 10], []), ((-3, 0, 1), [11, 12, 13], []),
):
    feeds = {name: np.asarray(number, np.int64) for name, number in zip(("start", "limit", "delta"), numbers, strict=True)}
    feeds["x"] = np.asarray([10, 11, 12, 13], np.float32)
    plain, found = run(feeds, ort.GraphOptimizationLevel.ORT_DISABLE_ALL), run(feeds, usual)
    print(numbers, "unoptimized", plain, "default", found)
    assert plain == expected, plain
    assert found == (expected if wrong is None else wrong), found
PYTHON
