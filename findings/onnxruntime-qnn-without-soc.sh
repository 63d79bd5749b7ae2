#!/usr/bin/env bash
# A good engineer would expect a Gelu of sixteen floats to compile for Qualcomm's NPU offline, as MatMul does, or an error that says
# what is missing. With onnxruntime-qnn 2.7.0 on x86 (its HTP simulator) and no `soc_model`, Gelu and Gather of floats end with
# "Failed to finalize QNN graph. Error: QNN_COMMON_ERROR_MEM_ALLOC: Memory allocation related error", at any size. `htp_arch` does not help.
#
# Seen: MatMul compiles; Gelu fails, also with htp_arch=73; with soc_model=60 (Snapdragon X Elite, which is v73) it compiles.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime==1.32.0 onnxruntime-qnn==2.7.0
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import onnx
import onnxruntime as ort
import onnxruntime_qnn

name = onnxruntime_qnn.get_ep_name()
ort.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
device = next(device for device in ort.get_ep_devices() if device.ep_name == name)


def compiles(body, **more):
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> net (float[4, 4] x) => (float[4, 4] y) {{ {body} }}')
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_provider_for_devices([device], {"backend_type": "htp", **more})
    compiler = ort.ModelCompiler(options, model.SerializeToString(), embed_compiled_data_into_model=True)
    try:
        compiler.compile_to_file("compiled.onnx")
    except Exception as error:
        return str(error)
    return "compiled"


for body, more, expected in (
    ("y = MatMul(x, x)", {}, "compiled"),
    ("y = Gelu(x)", {}, "MEM_ALLOC"),
    ("y = Gelu(x)", {"htp_arch": "73"}, "MEM_ALLOC"),
    ("y = Gelu(x)", {"soc_model": "60"}, "compiled"),
):
    found = compiles(body, **more)
    print(body, more, found)
    assert expected in found
EOF
