#!/usr/bin/env bash
# With a past, a causal query of `Attention` (ai.onnx 23) sees all of the past and itself: so its specification says, and a decoder does nothing
# else. A good engineer would expect a runtime that takes a past to count it. tract 0.23.9 puts the past in front of the keys, returns
# both as it should, and masks as if the first query stood at the first key: a new token sees the oldest one alone.
#
# Seen: values 0 to 6 and equal scores, a past of three: four queries give 0, 0.5, 1, 1.5 where onnx's reference and onnxruntime 1.32.0 give
# 1.5, 2, 2.5, 3; one query gives 0 where 1.5 is right. Without a past it is right. `left_window_size` (25) is passed over, too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime==1.32.0 tract==0.23.9
cd "$work"
venv/bin/python -W ignore - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
import tract
from onnx.reference import ReferenceEvaluator

MODEL = """
    <ir_version: 10, opset_import: ["": 23]>
    net (float[1, 1, Q, 8] q, float[1, 1, Q, 8] k, float[1, 1, Q, 8] v, float[1, 1, P, 8] past_k, float[1, 1, P, 8] past_v)
        => (float[1, 1, Q, 8] y, float[1, 1, T, 8] keys, float[1, 1, T, 8] values) {
        y, keys, values = Attention<is_causal = 1>(q, k, v, , past_k, past_v)
    }
"""

for past, queries, right, seen in ((3, 4, [1.5, 2, 2.5, 3], [0, 0.5, 1, 1.5]), (3, 1, [1.5], [0]), (0, 4, [0, 0.5, 1, 1.5], [0, 0.5, 1, 1.5])):
    total = past + queries
    model = onnx.parser.parse_model(MODEL.replace("Q", str(queries)).replace("P", str(past)).replace("T", str(total)))
    onnx.checker.check_model(model, full_check=True)
    values = np.repeat(np.arange(total, dtype=np.float32).reshape(1, 1, total, 1), 8, axis=3)
    zeros = np.zeros_like(values)
    feeds = {"q": zeros[:, :, past:], "k": zeros[:, :, past:], "v": values[:, :, past:], "past_k": zeros[:, :, :past], "past_v": values[:, :, :past]}
    onnx.save(model, "net.onnx")
    runnable = tract.onnx().load("net.onnx").into_model().into_runnable()
    found = [output.to_numpy() for output in runnable.run([np.ascontiguousarray(feed) for feed in feeds.values()])]
    defined = ReferenceEvaluator(model).run(None, feeds)[0]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    usual = session.run(None, feeds)[0]
    print(past, queries, "reference", defined[0, 0, :, 0], "onnxruntime", usual[0, 0, :, 0], "tract", found[0][0, 0, :, 0])
    assert np.allclose(defined[0, 0, :, 0], right) and np.allclose(usual, defined)
    assert np.allclose(found[0][0, 0, :, 0], seen), found[0]
    assert np.array_equal(found[2], values)
PYTHON
