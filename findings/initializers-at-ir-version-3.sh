#!/usr/bin/env bash
# Up to IR version 3 an initializer must be named among the graph's inputs too. A good engineer would expect an optimizer that turns a
# Constant node into an initializer to raise the IR version or to add the input. onnxscript 0.7.2 and onnxslim 0.1.98 do
# neither: what they make is no valid ONNX. onnxsim 0.8.1 raises an error over the same; onnxoptimizer 0.4.2 writes version 4.
#
# Seen: "s in initializer but not in graph input" by onnx.checker, for each model of PyTorch before 1.2 that holds a constant.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime==1.32.0 onnxscript==0.7.2 onnx-ir==1.1.0 onnxslim==0.1.98
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import onnx
import onnxscript.optimizer
import onnxslim

TEXT = """
    <ir_version: 3, opset_import: ["": 9]>
    net (float[2, 6] x) => (float[a, b] y) { s = Constant<value = int64[2] {3, 4}>() y = Reshape(x, s) }
"""
onnx.checker.check_model(onnx.parser.parse_model(TEXT), full_check=True)
for optimize in (onnxscript.optimizer.optimize, onnxslim.slim):
    optimized = optimize(onnx.parser.parse_model(TEXT))
    assert optimized.ir_version == 3, optimized.ir_version
    try:
        onnx.checker.check_model(optimized)
    except onnx.checker.ValidationError as error:
        print(optimize.__module__, str(error).splitlines()[0])
        assert "s in initializer but not in graph input" in str(error), error
    else:
        raise SystemExit("the checker accepts it")
EOF
