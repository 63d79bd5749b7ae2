#!/usr/bin/env bash
# A good engineer would expect an optimizer to write operators in the form of the opset that the model imports.
# onnxscript 0.7.2's optimizer writes some in the form of a later one: Split with `num_outputs` (opset 18) or with its sizes as
# an input (13) where it folds a SplitToSequence, and Gemm without a bias (11) where the bias is zero.
#
# Seen: valid models of opset 11 and 9 become such as neither onnx.checker nor onnxruntime 1.32.0 takes: "Unrecognized attribute:
# num_outputs for operator Split", "Node(node_Gemm_0) with schema(::Gemm:9) has input size 2 not in range [min=3, max=3]".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxscript==0.7.2 onnx-ir==1.1.0
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import onnx
import onnxscript.optimizer

MODELS = {
    "num_outputs": """
        <ir_version: 6, opset_import: ["": 11]>
        net (float[4, 2] x) => (float[a, b] y) {
            size = Constant<value = int64 {1}>()
            parts = SplitToSequence<axis = 0>(x, size)
            first = Constant<value = int64 {0}>()
            y = SequenceAt(parts, first)
        }""",
    "schema(::Split:11) has input size 2": """
        <ir_version: 6, opset_import: ["": 11]>
        net (float[4, 2] x) => (float[a, b] y) {
            sizes = Constant<value = int64[2] {1, 3}>()
            parts = SplitToSequence<axis = 0>(x, sizes)
            first = Constant<value = int64 {0}>()
            y = SequenceAt(parts, first)
        }""",
    "has input size 2 not in range [min=3, max=3]": """
        <ir_version: 6, opset_import: ["": 9]>
        net (float[4, 2] x, float[2, 3] w) => (float[4, 3] y) {
            zero = Constant<value = float[3] {0, 0, 0}>()
            y = Gemm(x, w, zero)
        }""",
}
for expected, text in MODELS.items():
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    optimized = onnxscript.optimizer.optimize(model)
    try:
        onnx.checker.check_model(optimized)
    except onnx.checker.ValidationError as error:
        print(str(error).splitlines()[0])
        assert expected in str(error), error
    else:
        raise SystemExit(f"the checker accepts it: {expected}")
EOF
