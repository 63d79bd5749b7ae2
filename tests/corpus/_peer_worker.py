"""Runs another optimizer, as its own documentation does, in the environment that it lives in.

A line of JSON on standard input names the optimizer, the model and the file to write; one line of JSON is
answered: what it raised, or nothing.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

import onnx

from tests.corpus._limits import allow

SECONDS = 60


def optimized(peer: str, path: str) -> Any:
    """The model, optimized with no option set."""
    model = onnx.load(path)
    if peer == "onnxscript":
        return importlib.import_module("onnxscript.optimizer").optimize(model)
    module = importlib.import_module(peer)
    if peer == "onnxsim":
        simplified, equal = module.simplify(model)
        if not equal:
            raise ValueError("onnxsim's own check says that results differ")
        return simplified
    return module.slim(model) if peer == "onnxslim" else module.optimize(model)


def main() -> None:
    """Answer until there is no more to do; what the optimizers print goes nowhere."""
    answers = os.fdopen(os.dup(1), "w")
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    for line in sys.stdin:
        asked = json.loads(line)
        allow(SECONDS)
        said = ""
        try:
            onnx.save(optimized(asked["peer"], asked["model"]), asked["out"])
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        print(json.dumps({"error": said}), file=answers, flush=True)


if __name__ == "__main__":
    main()
