#!/usr/bin/env bash
# A good engineer would expect larger blocks of MatMulNBits to be no slower: there are fewer scales to read and to multiply by, and with 4 and 8 bits
# it is so. onnxruntime 1.32.0 on the CPU, 2 bits, accuracy_level 4: blocks of 32, 64 and 128 are multiplied in int8, while blocks of 256 (and of 16)
# run in float32 by a path that unpacks weights on every call, with no message.
#
# Seen on AVX512-VNNI, one row of 2048 x 2048: 16.6 ms in blocks of 256, 0.066 ms in blocks of 128. The script asks for 20 times as long at least.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$work"
venv/bin/python -W ignore - <<'PY'
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

K = N = 2048


def seconds(bits: int, block: int) -> float:
    rng = np.random.default_rng(0)
    packed = rng.integers(0, 256, (N, K // block, block * bits // 8), dtype=np.uint8)
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft",
        K=K, N=N, bits=bits, block_size=block, accuracy_level=4,
    )
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, K])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, N])],
        [numpy_helper.from_array(packed, "w"),
         numpy_helper.from_array(np.full((N, K // block), 0.01, np.float32), "s")],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = {"x": rng.standard_normal((1, K), dtype=np.float32)}
    times = []
    for _ in range(15):
        started = time.perf_counter()
        session.run(None, x)
        times.append(time.perf_counter() - started)
    return min(times)


found = {(bits, block): seconds(bits, block) for bits in (2, 4, 8) for block in (128, 256)}
for (bits, block), each in found.items():
    print(f"{bits} bits, blocks of {block}: {1e3 * each:.3f} ms")
if found[2, 256] < 20 * found[2, 128]:
    raise SystemExit("2 bits in blocks of 256 are not slow any more")
if max(found[4, 256] / found[4, 128], found[8, 256] / found[8, 128]) > 3:
    raise SystemExit("4 or 8 bits in blocks of 256 are slow too")
PY
