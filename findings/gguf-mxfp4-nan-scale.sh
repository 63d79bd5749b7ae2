#!/usr/bin/env bash
# MXFP4 shares an E8M0 scale among 32 values, and 255 is that format's only NaN (OCP Microscaling Formats 1.0, 5.4.1). A good engineer would
# expect a block with it to decode to NaN. gguf 0.19.0 reads it as 2^128, as if it were a number like the others.
#
# Seen: 32 values of 0.5 decode to 1.7014118e+38, finite.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check gguf==0.19.0 numpy==2.4.6
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

block = np.full((1, 17), 0x11, np.uint8)  # a scale, and 32 times the code of 0.5
for scale, expected in ((127, 0.5), (254, 2.0**126), (255, 2.0**127)):
    block[0, 0] = scale
    found = dequantize(block, GGMLQuantizationType.MXFP4)[0]
    print(scale, found[0])
    assert (found == np.float32(expected)).all(), found
EOF
