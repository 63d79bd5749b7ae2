#!/usr/bin/env bash
# A good engineer would expect a mistyped option of an execution provider to raise. onnxruntime-qnn 2.7.0 goes on as if it were not
# there: a name that it does not have, a number that is none, a backend that does not exist. Nothing is raised, and what is compiled
# is what would be without the option: for `soc_model="x-elite"` a context for no chip.
#
# Seen: all four compile to as many bytes as without the option.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime==1.32.0 onnxruntime-qnn==2.7.0
cd "$work"
venv/bin/python -W ignore - <<'EOF'
from pathlib import Path

import onnx
import onnxruntime as ort
import onnxruntime_qnn

name = onnxruntime_qnn.get_ep_name()
ort.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
device = next(device for device in ort.get_ep_devices() if device.ep_name == name)
model = onnx.parser.parse_model(
    '<ir_version: 10, opset_import: ["": 20]> net (float[4, 4] x) => (float[4, 4] y) { y = MatMul(x, x) }'
)


def size(**more):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_provider_for_devices([device], {"backend_type": "htp", **more})
    ort.ModelCompiler(
        options, model.SerializeToString(), embed_compiled_data_into_model=True
    ).compile_to_file("compiled.onnx")
    return Path("compiled.onnx").stat().st_size


plain = size()
for more in ({"no_such_option": "1"}, {"vtcm_mb": "lots"}, {"backend_type": "no such backend"}, {"soc_model": "x-elite"}):
    found = size(**more)
    print(more, found, "as without" if found == plain else f"not {plain}")
    assert found == plain
EOF
