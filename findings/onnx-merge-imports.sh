#!/usr/bin/env bash
# A good engineer would expect two models that are merged into one to import each domain once, as either did. onnx 1.23.2's
# `compose.merge_models` writes the imports of both; its checker says nothing, and its version converter raises the first alone:
# what it then writes imports the default domain at two versions.
#
# Seen: two models of opset 17 give one that imports "" at 17 and 17; converted to 18, at 18 and 17, which the checker takes, too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import onnx
from onnx import compose, parser, version_converter

first = parser.parse_model('<ir_version: 8, opset_import: ["": 17]> a (float[2] x) => (float[2] y) { y = Relu(x) }')
second = parser.parse_model('<ir_version: 8, opset_import: ["": 17]> b (float[2] y) => (float[2] z) { z = Relu(y) }')
merged = compose.merge_models(first, second, io_map=[("y", "y")])
raised = version_converter.convert_version(merged, 18)
found = []
for model in (merged, raised):
    onnx.checker.check_model(model)
    found.append([(one.domain, one.version) for one in model.opset_import])
    print(found[-1])
assert found == [[("", 17), ("", 17)], [("", 18), ("", 17)]]
EOF
