#!/usr/bin/env bash
# Since opset 18 Pad and Resize may name the axes that they change. A good engineer would expect an optimizer that moves a Transpose past them to
# read those axes. onnxruntime 1.32.0's transpose optimizer (default level, from basic on) takes the pads or scales for one of each axis in turn:
# a net of NHWC layout, which transposes, pads height and width and transposes back, can't be run; where all axes are named in another
# order, it runs and other axes are padded or resized. Neither without optimizations.
#
# Seen: with axes 1, 2 "indices element out of data bounds, idx=4 must be within the inclusive range [-4,3]" from a Gather that the model does
# not have; with axes 0, 2, 1, 3 a Pad to [1, 4, 4, 7] where [1, 3, 6, 6] is right, and a Resize to [1, 6, 4, 7] for [1, 3, 6, 10].
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

MODEL = """
    <ir_version: 10, opset_import: ["": 21]>
    net (float[1, 3, 4, 5] x) => (float[a, b, c, d] y) <CONSTANTS> {
        t = Transpose<perm = [0, 2, 3, 1]>(x)
        u = NODE
        y = Transpose<perm = [0, 3, 1, 2]>(u)
    }
"""
PAD, RESIZE = "Pad(t, pads, , axes)", 'Resize<mode = "nearest", axes = [AXES]>(t, , scales)'
ALL = "int64[4] axes = {0, 2, 1, 3}, int64[8] pads = {0, 1, 2, 0, 0, 0, 0, 0}"
SOME = "int64[2] axes = {1, 2}, int64[4] pads = {1, 2, 1, 2}"

def run(model, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    try:
        return list(session.run(None, {"x": np.ones((1, 3, 4, 5), np.float32)})[0].shape)
    except Exception as error:
        return str(error)

ort.set_default_logger_severity(4)
usual = ort.SessionOptions().graph_optimization_level
for node, constants, right, wrong in (
    (PAD, ALL, [1, 3, 6, 6], [1, 4, 4, 7]),
    (RESIZE.replace("AXES", "0, 2, 1, 3"), "float[4] scales = {1, 2, 1.5, 1}", [1, 3, 6, 10], [1, 6, 4, 7]),
    (PAD, SOME, [1, 3, 6, 9], "idx=4 must be within the inclusive range [-4,3]"),
    (RESIZE.replace("AXES", "1, 2"), "float[2] scales = {2, 2}", [1, 3, 8, 10], "idx=3 must be within the inclusive range [-2,1]"),
):
    model = onnx.parser.parse_model(MODEL.replace("NODE", node).replace("CONSTANTS", constants))
    onnx.checker.check_model(model, full_check=True)
    plain = run(model.SerializeToString(), ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    found = run(model.SerializeToString(), usual)
    print(node, constants, "unoptimized", plain, "default", found)
    assert plain == right, plain
    assert found == wrong if isinstance(wrong, list) else wrong in found, found
PYTHON
