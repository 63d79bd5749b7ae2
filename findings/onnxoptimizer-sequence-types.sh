#!/usr/bin/env bash
# A good engineer would expect an optimizer to leave the types of inputs alone that it does nothing to. onnxoptimizer
# 0.4.2 knows tensors only: an input or output that is a sequence comes out without any type, at its defaults, and
# without a word.
#
# Seen: onnx.checker says "Field 'type' of 'value_info' is required but missing."; onnxruntime 1.32.0 refuses the model.
# 23 cases of onnx 1.23.2's backend suite are such.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxoptimizer==0.4.2
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import onnx
import onnxoptimizer

model = onnx.parser.parse_model("""
    <ir_version: 10, opset_import: ["": 21]>
    net (float[4, 2] x, seq(float[4, 2]) many) => (seq(float[4, 2]) y) { y = SequenceInsert(many, x) }
""")
onnx.checker.check_model(model, full_check=True)
optimized = onnxoptimizer.optimize(model)
print([(value.name, value.HasField("type")) for value in (*optimized.graph.input, *optimized.graph.output)])
assert [value.HasField("type") for value in optimized.graph.input] == [True, False]
assert not optimized.graph.output[0].HasField("type")
try:
    onnx.checker.check_model(optimized)
except onnx.checker.ValidationError as error:
    assert "is required but missing" in str(error), error
else:
    raise SystemExit("the checker accepts it")
EOF
