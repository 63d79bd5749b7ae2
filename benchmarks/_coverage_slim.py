"""onnxslim without options, in its own environment: model.onnx becomes slim.onnx; prints what it raised."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import onnx
import onnxslim


def main() -> None:
    folder, answers = Path(sys.argv[1]), os.fdopen(os.dup(1), "w")
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    (folder / "slim.onnx").unlink(missing_ok=True)
    said = ""
    try:
        onnx.save(onnxslim.slim(onnx.load(folder / "model.onnx")), folder / "slim.onnx")
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
