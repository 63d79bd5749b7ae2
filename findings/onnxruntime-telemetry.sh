#!/usr/bin/env bash
# A good engineer would expect a library that runs local files to write none of its own where nobody asked. The Linux wheel of onnxruntime 1.32.0
# keeps a device id and a database of events below the user's cache folder, as soon as one session is made.
# ORT_DISABLE_TELEMETRY=1 before the import stops it.
#
# Seen: Microsoft/DeveloperTools/.onnxruntime/{deviceid,onnxruntime.db} in an empty XDG_CACHE_HOME; none with the variable set.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime==1.32.0
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import onnx, onnxruntime
model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]> net (float[2] x) => (float[2] y) { y = Abs(x) }')
onnxruntime.InferenceSession(model.SerializeToString())
"""
found = []
for name, variables in (("as it is", {}), ("disabled", {"ORT_DISABLE_TELEMETRY": "1"})):
    cache = Path(name).resolve()
    kept = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment = kept | variables | {"HOME": str(cache), "XDG_CACHE_HOME": str(cache)}
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True)
    found.append(sorted(path.name for path in cache.rglob("*") if path.is_file()))
    print(name, found[-1])
assert {"deviceid", "onnxruntime.db"} <= set(found[0])
assert found[1] == []
EOF
