#!/usr/bin/env bash
# A good engineer would expect a model that is exported with a dynamic batch to run on more than one row. torch 2.13.0's exporter at
# opset 23 puts a RotaryEmbedding in the place of what transformers' Qwen3 computes, whose sines and cosines have a batch of one; the
# operator wants one for each row (or position ids), and onnxruntime 1.32.0 refuses the call. At opset 21 the same export runs.
#
# Seen: traced on two rows, the model of opset 23 runs on one row and fails on two: "Inputs 'cos_cache' and 'sin_cache' are
# expected to have the same shape as input 'x', got 1 and 12".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 onnxscript==0.7.2 \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import onnxruntime as ort
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

SIZES = dict(vocab_size=64, hidden_size=32, head_dim=8, intermediate_size=64, max_position_embeddings=64)
HEADS = dict(num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2)

class Logits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Qwen3ForCausalLM(Qwen3Config(**SIZES, **HEADS)).eval()

    def forward(self, ids):
        return self.model(input_ids=ids, use_cache=False).logits

def said(opset, rows):
    dynamic = {"ids": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
    torch.onnx.export(Logits(), (ids,), f"{opset}.onnx", dynamo=True, opset_version=opset, dynamic_shapes=dynamic)
    session = ort.InferenceSession(f"{opset}.onnx", providers=["CPUExecutionProvider"])
    try:
        return session.run(None, {"ids": ids[:rows].numpy()})[0].shape
    except Exception as error:
        return str(error)

ids = torch.arange(24).reshape(2, 12)
assert said(21, 2) == (2, 12, 64)
assert said(23, 1) == (1, 12, 64)
found = said(23, 2)
print(found)
assert "expected to have the same shape as input 'x', got 1 and 12" in found
EOF
